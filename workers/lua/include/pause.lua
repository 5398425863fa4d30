-- pause(until_ms, reason) and freeze(until_ms) of SETTLE. O(1).
-- Fields: paused (end in ms, -1 until somebody resumes it), reason, since, quota_until.

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

-- A 429's freeze is kept apart as well: another pause may cover it, and end before it.
local function freeze(until_ms)
  if until_ms > account.quota_until then
    account.quota_until = until_ms
    redis.call('HSET', KEY.META, 'quota_until', string.format('%.0f', until_ms))
  end
  pause(until_ms, 'quota')
end
