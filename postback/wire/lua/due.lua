-- DUE: queues have something to do. They stand in the schedule from now on, and workers that wait are woken (ADR 29).
-- A queue that stands there already costs no more than the look: it is asked anyway, or cannot be asked yet.
--
-- KEYS  1 schedule (zset)   2 timers (zset)
-- ARGV  1 channel of those who wait
--       2 why: sent; found: somebody came by it (one with a timer is left to it); ask: whatever stands there;
--              changed: its limits have, so that what the schedule says of it may not hold any more
--       3.. queues
-- Returns how many were not due before. O(queues x log).

-- A full Redis refuses a script whose first write could take memory (ADR 18).
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
