-- RESUME: ends an account's pause, whatever its reason: its own, that of its credential, which then ends for all accounts that have the same key,
-- and its quota's freeze. Its run of failures is forgotten, TAKE puts events held aside back to the front in order of their first grant, and one
-- request goes first (healthy 0): if the provider still refuses, only that one is spent.
--
-- KEYS  1 meta (hash)   2 held (zset)   Those of its quota and its credential are named in meta (ADR 33).
-- Returns { 1 if it was paused, reason, events to be released, 1 if others had to wait with it }. O(1).

-- A full Redis lets a script finish that has written, and refuses one whose first write could take memory.
redis.call('HDEL', KEYS[1], '')
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + clock[2] / 1000
local before = redis.call('HMGET', KEYS[1], 'paused', 'reason', 'outage', 'quota', 'credential')
local quota, credential = before[4], before[5]

local function is_on(until_text)
  return until_text and (until_text == '-1' or tonumber(until_text) > now_ms)
end

local reason, shared = is_on(before[1]) and (before[2] or ''), nil
if credential then
  if is_on(redis.call('HGET', credential, 'paused')) then shared = 'credentials' end
  redis.call('HDEL', credential, 'paused', 'since', 'detail')
  redis.call('HDEL', credential, 'healthy')
end
if quota then
  if is_on(redis.call('HGET', quota, 'frozen')) then shared = shared or 'quota' end
  redis.call('HDEL', quota, 'frozen', 'frozen_at', 'level', 'detail')
end

local held = redis.call('ZCARD', KEYS[2])
if held > 0 then redis.call('HSET', KEYS[1], 'release', before[3] and 'outage' or 'resume') end
redis.call('HDEL', KEYS[1], 'paused', 'reason', 'since', 'detail', 'fails', 'level', 'cursor', 'outage')
reason = reason or shared
return { reason and 1 or 0, reason or '', held, shared and 1 or 0 }
