-- hand_out(id, grant): adds a grant to the reply's `grants`, as { name, value, ... }:
--   id, granted_us
--   messages        its own messages, then the siblings of a half, end to end
--   bytes           size of each own message, separated by spaces; absent for a single message
--   sibling_bytes   size of each sibling; present with `bytes`
--   half            1 for a half of a refused batch; else absent
--   owners          for each own message the id of the event that owns its idempotency key, or '';
--                   absent if none is a duplicate
--   revoked         { numbers of its own messages that are revoked, from 1 }; may be absent if
--                   there are none
-- Messages are sent as one text, since each table in a reply costs Redis as much as a command.
-- O(bytes).

-- @include message
-- @include revocations

local grants = {}

local function append(reply, name, value)
  local size = #reply
  reply[size + 1], reply[size + 2] = name, value
end

local function lengths(raws)
  local bytes = {}
  for i, raw in ipairs(raws) do bytes[i] = #raw end
  return table.concat(bytes, ' ')
end

local function revoked_of(grant)
  local revoked = {}
  for i, raw in ipairs(grant.raws) do
    if redis.call('ZSCORE', KEY.REVOKED, plain_header(raw, 'id') or '') then
      revoked[#revoked + 1] = i
    end
  end
  return revoked
end

local function hand_out(id, grant)
  local reply = { 'id', id, 'granted_us', grant.at, 'messages', grant.raws[1] }
  if #grant.raws ~= 1 or #grant.sibling > 0 then
    reply[6] = table.concat(grant.raws) .. table.concat(grant.sibling)
    append(reply, 'bytes', lengths(grant.raws))
    append(reply, 'sibling_bytes', lengths(grant.sibling))
  end
  if grant.group == 1 then append(reply, 'half', 1) end
  for _, owner in ipairs(grant.owners) do
    if owner ~= '' then
      append(reply, 'owners', grant.owners)
      break
    end
  end
  if revocations then append(reply, 'revoked', revoked_of(grant)) end
  grants[#grants + 1] = reply
end
