-- Tombstones of revoked events (ADR 23). forget_revocation(raw): its event has ended. O(log n).

-- @include message

-- A tombstone holds for so many ms.
local REVOKED_MS = 400 * 86400000

local function is_revoked(raw)
  return redis.call('ZSCORE', REVOKED, plain_header(raw, 'id') or '') ~= false
end

local function forget_revocation(raw) redis.call('ZREM', REVOKED, plain_header(raw, 'id') or '') end
