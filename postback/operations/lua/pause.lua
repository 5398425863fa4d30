-- PAUSE: stops an account until somebody resumes it. Requests on the wire are not stopped. TAKE
-- hands out no more.
--
-- KEYS  1 meta (hash)   2 the provider's journal (stream)
-- ARGV  1 reason   2 detail: a few words for people   3 the journal's record, without its time
-- Returns { 1, '' }; or { 0, reason } if the account already waits for somebody, and then changes
-- nothing. O(1).

-- @include note

-- A full Redis refuses a script if its first write could take memory, and finishes one that has
-- written. HDEL takes none.
redis.call('HDEL', KEYS[1], '')
local standing = redis.call('HMGET', KEYS[1], 'paused', 'reason', 'credential')
if standing[1] == '-1' then return { 0, standing[2] or '' } end
if standing[3] and redis.call('HGET', standing[3], 'paused') == '-1' then return { 0, 'credentials' } end
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[1], 'paused', '-1', 'reason', ARGV[1], 'detail', ARGV[2], 'since', string.format('%.0f', now_ms))
note(KEYS[2], ARGV[3])
return { 1, '' }
