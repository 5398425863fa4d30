-- end_run(): ends the run of failures; TAKE then releases the messages held aside. O(1).

local function end_run()
  if not releasing and redis.call('EXISTS', KEY.HELD) == 1 then
    releasing = true
    redis.call('HSET', KEY.META, 'release', was_outage and 'outage' or 'run')
  end
  if account.reason == 'outage' or account.reason == 'retrying' then
    redis.call('HDEL', KEY.META, 'paused', 'reason', 'since', 'detail')
  end
  redis.call('HDEL', KEY.META, 'fails', 'cursor', 'outage', 'level')
  account.fails = 0
end
