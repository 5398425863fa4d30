-- notice_failover(run): notes the run id of the server. After another server took over (restart,
-- failover) no lease ends for a while: its workers live and have answers to tell. O(1).
-- Fields: run, grace.

-- @include account
-- @include clock

local GRACE_MS = 5000

local function notice_failover(run)
  if run == '' or run == account.run then return end
  if account.run then
    account.grace = now + GRACE_MS
    redis.call('HSET', KEY.META, 'grace', string.format('%.0f', account.grace))
  end
  redis.call('HSET', KEY.META, 'run', run)
end
