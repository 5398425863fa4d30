-- plan(reply): when a queue that cannot be asked at once is to be asked next, from TAKE's reply; never
-- later than the end of the first lease, or of the request whose answer it waits for. O(log n).

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
  local soonest = math.min(first_lease_end(), state == 'blocked' and credential.blocked_until or math.huge)
  ask_at(math.ceil(math.min(now + math.min(wait_ms or longest_ms, longest_ms), soonest)))
end
