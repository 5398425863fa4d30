-- pause(until_ms, reason) of SETTLE. O(1).
-- Fields: paused (end in ms, -1 until somebody resumes it), reason, since.

-- @include account
-- @include clock

-- A pause never shortens another one, and never lifts one that waits for an operator.
local function pause(until_ms, reason)
  if account.paused == -1 or (until_ms ~= -1 and until_ms <= account.paused) then return end
  if account.paused <= now then
    account.since = now
    redis.call('HSET', KEY.META, 'since', string.format('%.0f', now))
  end
  account.paused, account.reason = until_ms, reason
  redis.call('HSET', KEY.META, 'paused', string.format('%.0f', until_ms), 'reason', reason, 'detail', answer.detail or '')
end
