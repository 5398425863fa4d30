-- wait_again(before): frees places of dead workers and absent accounts, and returns the wait in ms;
-- 0 if there is a place. join_line(): the account waits from now on. O(LOOKED_AT x log n).

-- @include line
-- @include logs

-- An account that was due for so many ms and did not ask is absent: no worker has room for it.
local ABSENT_MS = 1000
-- Accounts in front that are checked.
local LOOKED_AT = 20

-- Requests whose worker died are no longer on their way.
local function lapse_all()
  for _, log in ipairs(logs) do
    if log.hash ~= KEY.META and redis.call('ZCOUNT', flight_of(log), '-inf', now) > 0 then
      -- @include lapse
      lapse(log)
    end
  end
end

-- Absent accounts in front leave the line.
local function drop_absent(most)
  for _, queue in ipairs(redis.call('ZRANGE', line(), 0, math.min(most, LOOKED_AT) - 1)) do
    local at = redis.call('ZSCORE', KEY.SCHEDULE, queue)
    if queue ~= KEY.QUEUE and (not at or tonumber(at) < now - ABSENT_MS) then
      waiting = waiting - redis.call('ZREM', line(), queue)
    end
  end
end

local function wait_again(before)
  lapse_all()
  if before > 0 and quota_wait_ms(0) <= 0 then   -- there is a place for the accounts in front
    drop_absent(before)
    before = ahead()
  end
  return quota_wait_ms(before)
end

local function join_line()
  waiting = waiting + redis.call('ZADD', line(), 'NX', now_us + joined, KEY.QUEUE)
  joined = joined + 1
  if not logs[1].line then redis.call('HSET', KEY.QUOTA, 'line', 1) end
end
