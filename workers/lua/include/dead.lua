-- bury(raw, state, letter): makes a dead letter of a message. O(bytes).
-- It carries its reason with it, as JSON text; a raw text that is no message is kept as it is. The
-- event is over: its key is free, and nobody needs its tombstone.

-- @include idempotency
-- @include revoked
-- @include state

local function bury(raw, state, letter)
  release_key(raw)
  local dead = with_header(with_state(raw, state), 'postback_dead', letter) or raw
  redis.call('LPUSH', DEAD, dead)
  if NOTICES then redis.call('LPUSH', NOTICES, dead) end
  forget_revocation(raw)
end
