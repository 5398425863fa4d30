-- notice_failover(run): notes the run id of the server. After a restart or failover no lease ends
-- for a while: the workers are alive and have answers to settle. O(1).
-- Fields: run.

-- @include account
-- @include clock

local GRACE_MS = 5000

local function notice_failover(run)
  if account.run then
    redis.call('HSET', KEY.META, 'grace', string.format('%.0f', now + GRACE_MS))
  end
  redis.call('HSET', KEY.META, 'run', run)
end
