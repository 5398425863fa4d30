-- RESUME: ends an account's pause, whatever its reason: its own, its credential's and the freeze of
-- its quota. The credential's pause then ends for all accounts with the same key. The run of
-- failures is forgotten. TAKE puts events that were held aside back to the front, in the order of
-- their first grants. The credential is not healthy yet, so one request goes first. If the provider
-- still refuses it, only that one is spent.
--
-- KEYS  1 meta (hash)   2 held (zset)   3 the provider's journal (stream)
-- ARGV  1 the journal's record, without its time and detail
-- meta names the keys of its quota and of its credential (ADR 33).
-- Returns { 1 if it was paused, reason, events to be released, 1 if others waited with it }. O(1).

-- @include note

-- A full Redis refuses a script if its first write could take memory, and finishes one that has
-- written. HDEL takes none.
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
if reason or held > 0 then note(KEYS[3], ARGV[1], '"detail": ' .. cjson.encode(reason and 'it was paused: ' .. reason or 'events were held aside')) end
return { reason and 1 or 0, reason or '', held, shared and 1 or 0 }
