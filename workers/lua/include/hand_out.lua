-- hand_out(id, grant): adds a grant to the reply's `grants`, as { name, value, ... }:
--   id, granted_us
--   messages        its own messages and then the siblings of a half, end to end, since a reply of
--                   many parts is slow to read
--   bytes           { of each of its own messages }
--   sibling_bytes   { of each sibling }
--   half            1 for a half of a refused batch, else 0
--   owners          for each own message the id of the event that owns its idempotency key, or '';
--                   absent where none is a duplicate
--   revoked         { numbers, from 1, of its own messages that somebody has revoked }
-- O(bytes).

-- @include message
-- @include sweep

local grants = {}

local function hand_out(id, grant)
  local bytes, sibling_bytes, revoked, owners = {}, {}, {}, nil
  for i, raw in ipairs(grant.raws) do
    bytes[i] = #raw
    if grant.owners[i] ~= '' then owners = grant.owners end
    if revocations and redis.call('ZSCORE', KEY.REVOKED, plain_header(raw, 'id') or '') then revoked[#revoked + 1] = i end
  end
  for i, raw in ipairs(grant.sibling) do sibling_bytes[i] = #raw end
  local reply = { 'id', id, 'granted_us', grant.at, 'messages', table.concat(grant.raws) .. table.concat(grant.sibling),
    'bytes', bytes, 'sibling_bytes', sibling_bytes, 'revoked', revoked, 'half', grant.group }
  if owners then
    reply[#reply + 1] = 'owners'
    reply[#reply + 1] = owners
  end
  grants[#grants + 1] = reply
end
