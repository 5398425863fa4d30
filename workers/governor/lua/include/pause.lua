-- pause(until_ms, reason): pauses the account (SETTLE). O(1).

-- @include account
-- @include clock

-- A pause never shortens another one, and never ends one that waits for an operator.
local function pause(until_ms, reason)
  read_account({ 'paused' })
  if account.paused == -1 or (until_ms ~= -1 and until_ms <= account.paused) then return end
  if account.paused <= now then
    redis.call('HSET', KEY.META, 'since', math.floor(now))
  end
  redis.call('HSET', KEY.META, 'paused', string.format('%.0f', until_ms), 'reason', reason,
    'detail', answer.detail or '')
end
