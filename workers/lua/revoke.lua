-- REVOKE: writes tombstones, which TAKE sees (ADR 23).
--
-- KEYS  1 revoked (zset event id -> ms)
-- ARGV  ids of events
-- Returns how many were new. O(ids x log).

-- A full Redis lets a script finish that has written, and refuses one whose first write could take memory.
redis.call('ZREM', KEYS[1], '')
local clock = redis.call('TIME')
local now_ms = string.format('%.0f', clock[1] * 1000 + clock[2] / 1000)
local new = 0
for _, id in ipairs(ARGV) do new = new + redis.call('ZADD', KEYS[1], 'NX', now_ms, id) end
return new
