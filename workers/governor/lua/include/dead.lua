-- bury(raw, state, letter): makes a dead letter of a message. O(bytes).
-- Its header holds the reason as JSON text. An entry that is no message is kept unchanged. The
-- event has ended: its idempotency key is free and its tombstone goes. Settings: notices.

-- @include idempotency
-- @include state

local function release_key(raw)
  local key = key_of(raw)
  if not key then return end
  local owner = redis.call('HGET', KEY.IDEM, key)
  local first, tag = string.match(owner or '', '^(.+) %d+ (%S*)$')
  if first and first == plain_header(raw, 'id') and tag == tag_of(raw) then
    redis.call('HDEL', KEY.IDEM, key)
    redis.call('ZREM', KEY.IDEM_ENDS, key)
  end
end

local function bury(raw, state, letter)
  release_key(raw)
  local dead = with_header(with_state(raw, state), 'postback_dead', letter) or raw
  redis.call('LPUSH', KEY.DEAD, dead)
  if settings.notices then redis.call('LPUSH', KEY.NOTICES, dead) end
  redis.call('ZREM', KEY.REVOKED, plain_header(raw, 'id') or '')
end
