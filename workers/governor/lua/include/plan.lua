-- plan(reply): writes into the schedule when the queue is due, by TAKE's reply. The time is never
-- after the end of its first lease, or of the lease of the request that it waits for. O(log n).

-- @include credential
-- @include schedule

local function first_lease_end()
  local first = redis.call('ZRANGE', KEY.FLIGHT, 0, 0, 'WITHSCORES')[2]
  return first and tonumber(first) or math.huge
end

local function plan(reply)
  local state, wait_ms = reply[2], reply[4]
  if state == 'empty' then
    redis.call('ZREM', KEY.SCHEDULE, KEY.QUEUE)
    if wait_ms then
      redis.call('ZADD', KEY.TIMERS, math.ceil(now + math.min(wait_ms, LONGEST_MS)), KEY.QUEUE)
    else
      redis.call('ZREM', KEY.TIMERS, KEY.QUEUE)
    end
    return
  end
  local longest_ms = state == 'filling' and FILLING_MS or LONGEST_MS
  local answer_by = state == 'blocked' and credential.blocked_until or math.huge
  local soonest = math.min(first_lease_end(), answer_by)
  ask_at(math.ceil(math.min(now + math.min(wait_ms or longest_ms, longest_ms), soonest)))
end
