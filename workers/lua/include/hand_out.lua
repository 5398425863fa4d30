-- hand_out(id, grant): adds a grant to the reply's `grants`, as { name, value, ... }:
--   id, granted_us
--   messages        its own messages and then the siblings of a half, end to end, since a reply of
--                   many parts is slow to read
--   bytes           { of each of its own messages }
--   sibling_bytes   { of each sibling }
--   half            1 for a half of a refused batch; else absent
--   owners          for each own message the id of the event that owns its idempotency key, or '';
--                   absent where none is a duplicate
--   revoked         numbers, from 1, of its own messages that somebody has revoked; absent if none
-- O(bytes).

-- @include reply
-- @include sweep

local grants = {}

local function lengths(raws)
  local bytes = {}
  for i, raw in ipairs(raws) do bytes[i] = #raw end
  return bytes
end

local function owners_of(grant)
  for _, owner in ipairs(grant.owners) do
    if owner ~= '' then return grant.owners end
  end
end

local function revoked_of(grant)
  local revoked = {}
  for i, raw in ipairs(grant.raws) do
    if is_revoked(raw) then revoked[#revoked + 1] = i end
  end
  return #revoked > 0 and revoked or nil
end

local function hand_out(id, grant)
  grants[#grants + 1] = named({
    id = id,
    granted_us = grant.at,
    messages = table.concat(grant.raws) .. table.concat(grant.sibling),
    bytes = lengths(grant.raws),
    sibling_bytes = lengths(grant.sibling),
    half = grant.group == 1 or nil,
    owners = owners_of(grant),
    revoked = revocations and revoked_of(grant) or nil,
  })
end
