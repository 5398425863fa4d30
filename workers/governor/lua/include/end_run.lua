-- end_run(): the run of failures is over: TAKE releases those held aside. O(1).

-- @include pause

local function end_run()
  if not releasing and redis.call('EXISTS', KEY.HELD) == 1 then
    releasing = true
    redis.call('HSET', KEY.META, 'release', was_outage and 'outage' or 'run')
  end
  if account.reason == 'outage' or account.reason == 'retrying' then
    read_account({ 'quota_until' })
    account.paused = 0
    redis.call('HDEL', KEY.META, 'paused', 'reason', 'since', 'detail')
    if account.quota_until > now then pause(account.quota_until, 'quota') end
  end
  redis.call('HDEL', KEY.META, 'fails', 'cursor', 'outage')
  account.fails = 0
end
