-- LOOK: which queues of a provider may be asked now, those that wait longest first, and when the
-- next one may (ADR 29).
--
-- KEYS  1 schedule (zset)   2 timers (zset)
-- ARGV  1 JSON: passed (places that the caller has passed by), most
-- Returns { name, value, ... }: due { queues };
--   wait_ms   until the next one; absent if there is none. O(most x log).

local wish = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- As in include/schedule.lua.
local LONGEST_MS = 60000

local function until_now(key, passed)
  return redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', passed, wish.most)
end

-- A full Redis refuses a script whose first write could take memory (ADR 18).
redis.call('ZREM', KEYS[1], '')
for _, queue in ipairs(until_now(KEYS[2], 0)) do
  redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', now), queue)
  redis.call('ZREM', KEYS[2], queue)
end
-- A producer, whose clock decides nothing, writes 0; and what lies further ahead than any plan is
-- none: somebody else wrote it, or the clock went back.
local fresh = redis.call('ZRANGEBYSCORE', KEYS[1], 0, 0, 'LIMIT', 0, wish.most)
local stray = redis.call('ZRANGEBYSCORE', KEYS[1], now + LONGEST_MS + 1000, '+inf', 'LIMIT', 0, wish.most)
for _, queues in ipairs({ fresh, stray }) do
  for _, queue in ipairs(queues) do redis.call('ZADD', KEYS[1], string.format('%.0f', now), queue) end
end
local reply = { 'due', until_now(KEYS[1], wish.passed) }
local soonest = math.huge
for _, key in ipairs(KEYS) do
  local next_one = redis.call('ZRANGEBYSCORE', key, '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if next_one[2] then soonest = math.min(soonest, tonumber(next_one[2])) end
end
if soonest < math.huge then reply[3], reply[4] = 'wait_ms', soonest - now end
return reply
