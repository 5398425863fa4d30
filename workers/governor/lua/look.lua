-- LOOK: reads which queues of a provider may be asked now, and when the next one may (ADR 29). The
-- queue that waits longest is the first. Producers write 0 for the time, since their clocks do not
-- count. LOOK writes the time in its place.
--
-- KEYS  1 schedule (zset)   2 timers (zset)
-- ARGV  1 JSON: passed (queues at the front to skip), most
-- Returns { name, value, ... }: due { queues };
--   wait_ms   until the next queue is due; absent if there is none. O(most x log).

local request = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local now_text = string.format('%.0f', now)

local function until_now(key, passed, ...)
  return redis.call('ZRANGEBYSCORE', key, '-inf', now_text, 'LIMIT', passed, request.most, ...)
end

local rung, first = until_now(KEYS[2], 0), until_now(KEYS[1], request.passed, 'WITHSCORES')
local due = {}
-- A full Redis refuses a script whose first write could take memory (ADR 18).
if #rung > 0 or first[2] == '0' then redis.call('ZREM', KEYS[1], '') end
for i = 1, #first, 2 do
  due[#due + 1] = first[i]
  if first[i + 1] == '0' then redis.call('ZADD', KEYS[1], now_text, first[i]) end
end
for _, queue in ipairs(rung) do
  if redis.call('ZADD', KEYS[1], 'NX', now_text, queue) == 1 and #due < request.most then
    due[#due + 1] = queue
  end
  redis.call('ZREM', KEYS[2], queue)
end

local soonest = math.huge
for _, key in ipairs(KEYS) do
  local later = redis.call('ZRANGEBYSCORE', key, '(' .. now_text, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if later[2] then soonest = math.min(soonest, tonumber(later[2])) end
end
if soonest == math.huge then return { 'due', due } end
return { 'due', due, 'wait_ms', soonest - now }
