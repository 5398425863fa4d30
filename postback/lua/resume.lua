-- RESUME: ends an account's pause, whatever its reason. Its run of failures is forgotten, TAKE puts events held aside back to the front in order of their
-- first grant, and one request goes first (healthy 0): if the provider still refuses, only that one is spent.
--
-- KEYS  1 meta (hash)   2 held (zset)
-- Returns { 1 if it was paused, reason, events to be released }. O(1).

-- A full Redis lets a script finish that has written, and refuses one whose first write could take memory.
redis.call('HDEL', KEYS[1], '')
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + clock[2] / 1000
local before = redis.call('HMGET', KEYS[1], 'paused', 'reason', 'outage')
local until_ms = tonumber(before[1] or 0)
local paused = until_ms == -1 or until_ms > now_ms

local held = redis.call('ZCARD', KEYS[2])
if held > 0 then redis.call('HSET', KEYS[1], 'release', before[3] and 'outage' or 'resume') end
redis.call('HDEL', KEYS[1], 'paused', 'reason', 'since', 'detail', 'fails', 'level', 'cursor', 'quota_until', 'outage')
redis.call('HSET', KEYS[1], 'healthy', 0)
return { paused and 1 or 0, paused and before[2] or '', held }
