-- RESUME: ends an account's pause, whatever its reason. Its run of failures is forgotten, events held aside go back to the front in order of their
-- first grant, and one request goes first (healthy 0): if the provider still refuses, only that one is spent.
--
-- KEYS  1-4 lists of the queue by priority step 0, 3, 6, 9; the right end is the front    5 held (zset)    6 meta (hash)
-- Returns { 1 if it was paused, reason, events released }. O(held events).

local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + clock[2] / 1000
local known = redis.call('HMGET', KEYS[6], 'paused', 'reason')
local until_ms = tonumber(known[1] or 0)
local paused = until_ms == -1 or until_ms > now_ms

-- Failures of the forgotten run are not to be given back by the next one: "attempts=2 tries=1 due=…" -> "attempts=2".
local function without_run(raw)
  local from, to, text = string.find(raw, '"postback"%s*:%s*"([^"]*)"')
  if not from then return raw end
  local words = {}
  for word in string.gmatch(text, '%S+') do
    if not string.find(word, '^tries=') and not string.find(word, '^due=') then words[#words + 1] = word end
  end
  return string.sub(raw, 1, from - 1) .. '"postback": "' .. table.concat(words, ' ') .. '"' .. string.sub(raw, to + 1)
end

local held = redis.call('ZRANGE', KEYS[5], 0, -1)
for i = #held, 1, -1 do
  local raw = without_run(held[i])
  local from = string.find(raw, '"priority"', 1, true)
  local n = from and tonumber(string.match(raw, '^"priority"%s*:%s*(%d+)', from)) or 0
  redis.call('RPUSH', KEYS[n >= 9 and 4 or n >= 6 and 3 or n >= 3 and 2 or 1], raw)
end
redis.call('DEL', KEYS[5])
redis.call('HDEL', KEYS[6], 'paused', 'reason', 'since', 'detail', 'fails', 'level', 'cursor', 'quota_until')
redis.call('HSET', KEYS[6], 'healthy', 0)
return { paused and 1 or 0, paused and known[2] or '', #held }
