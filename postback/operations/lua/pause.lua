-- PAUSE: stops an account until somebody resumes it. Requests on the wire end as they end; TAKE hands out no more.
--
-- KEYS  1 meta (hash)
-- ARGV  1 reason  2 detail: a few words for people
-- Returns { 1, '' }, or { 0, reason } if the account already waits for somebody; then nothing has changed. O(1).

-- A full Redis lets a script finish that has written, and refuses one whose first write could take memory.
redis.call('HDEL', KEYS[1], '')
local known = redis.call('HMGET', KEYS[1], 'paused', 'reason', 'credential')
if known[1] == '-1' then return { 0, known[2] or '' } end
if known[3] and redis.call('HGET', known[3], 'paused') == '-1' then return { 0, 'credentials' } end
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[1], 'paused', '-1', 'reason', ARGV[1], 'detail', ARGV[2], 'since', string.format('%.0f', now_ms))
return { 1, '' }
