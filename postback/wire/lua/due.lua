-- DUE: puts queues into the schedule and wakes the workers that wait (ADR 29).
-- A queue that is in it already costs one look: it will be asked anyway, or cannot be asked yet.
--
-- KEYS  1 schedule (zset)   2 timers (zset)
-- ARGV  1 channel that wakes workers
--       2 why: sent: an event was sent to them
--              found: a sweep found events in them; a queue with a timer is left to its timer
--              ask: they must be asked, whatever the schedule says
--              changed: their limits have changed, so what the schedule says may be wrong
--       3.. queues
-- Returns how many were not due before. O(queues x log).

-- A full Redis refuses a script if its first write could take memory. ZREM takes none (ADR 18).
redis.call('ZREM', KEYS[1], '')
local why = ARGV[2]
local clock = redis.call('TIME')
local now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))

local changed = 0
for i = 3, #ARGV do
  local queue = ARGV[i]
  if why == 'ask' then
    redis.call('ZADD', KEYS[1], now, queue)
    changed = changed + 1
  elseif why == 'changed' then
    changed = changed + redis.call('ZADD', KEYS[1], 'XX', 'CH', now, queue)
  elseif why == 'sent' or not redis.call('ZSCORE', KEYS[2], queue) then
    changed = changed + redis.call('ZADD', KEYS[1], 'NX', now, queue)
  end
end
if changed > 0 then redis.call('PUBLISH', ARGV[1], '') end
return changed
