-- lapse(log): requests whose lease ended are no longer on their way. Each counts from now on as an
-- answered one. O(PART).

-- @include bounds
-- @include logs

local function lapse(log)
  local flight = flight_of(log)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', flight, '-inf', now, 'LIMIT', 0, PART)) do
    charge(log)
    redis.call('ZREM', flight, id)
  end
  log.flying = redis.call('ZCARD', flight)
end
