-- hand_out(id, grant): adds a grant to the reply's `grants`, as { name, value, ... }:
--   id, granted_us
--   messages        its own messages and then the siblings of a half, end to end
--   bytes           of each of its own messages, separated by spaces
--   sibling_bytes   of each sibling; absent where there are none
--   half            1 for a half of a refused batch; else absent
--   owners          for each own message the id of the event that owns its idempotency key, or '';
--                   absent where none is a duplicate
--   revoked         { numbers, from 1, of its own messages that somebody has revoked }; absent if
--                   there are none
-- Each table in a reply costs Redis as much as a command. O(bytes).

-- @include message

local grants = {}
local revocations = redis.call('EXISTS', KEY.REVOKED) == 1

local function append(reply, name, value)
  local size = #reply
  reply[size + 1], reply[size + 2] = name, value
end

local function lengths(raws)
  local bytes = {}
  for i, raw in ipairs(raws) do bytes[i] = #raw end
  return table.concat(bytes, ' ')
end

local function hand_out(id, grant)
  local reply = { 'id', id, 'granted_us', grant.at, 'bytes', lengths(grant.raws),
    'messages', table.concat(grant.raws) .. table.concat(grant.sibling) }
  if #grant.sibling > 0 then append(reply, 'sibling_bytes', lengths(grant.sibling)) end
  if grant.group == 1 then append(reply, 'half', 1) end
  local owners, revoked = nil, {}
  for i, raw in ipairs(grant.raws) do
    if grant.owners[i] ~= '' then owners = grant.owners end
    if revocations and redis.call('ZSCORE', KEY.REVOKED, plain_header(raw, 'id') or '') then
      revoked[#revoked + 1] = i
    end
  end
  if owners then append(reply, 'owners', owners) end
  if #revoked > 0 then append(reply, 'revoked', revoked) end
  grants[#grants + 1] = reply
end
