-- notice_failover(run): notes the run id of the server. After another server took over (restart,
-- failover) no lease ends for a while: its workers live and have answers to tell. O(1).
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
