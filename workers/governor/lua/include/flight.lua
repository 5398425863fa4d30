-- Grants in flight. A grant is { at: us, raws: own messages, owners: for each own message the id of
-- the event that owns its idempotency key or '', sibling: messages of the other half, group: 1 for
-- a half }.

-- @include clock
-- @include keys
-- @include logs

-- Takes the place of a message that RECONCILE did not find: SETTLE goes by places in the grant.
local MISSING = 'postback:missing'

-- A grant in flight, by id. If its messages are gone, it has none.
local function grant_of(id)
  local packed = redis.call('HGET', KEY.UNACKED, id)
  return packed and cmsgpack.unpack(packed) or { at = now_us, raws = {}, owners = {}, sibling = {} }
end

-- The last step for a grant. If an earlier step fails, the lease brings its messages back.
local function forget(id, has_no_messages)
  for _, log in ipairs(logs) do
    if log.hash ~= KEY.META then redis.call('ZREM', flight_of(log), id) end
  end
  if KEY.APART then redis.call('ZREM', KEY.CREDENTIAL .. '.flight', id) end
  if not has_no_messages then redis.call('HDEL', KEY.UNACKED, id) end
  redis.call('ZREM', KEY.FLIGHT, id)
end
