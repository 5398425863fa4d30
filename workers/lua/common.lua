-- Shared by every script of the governor; loaded in front of each (see workers/scripts.py).
--
-- The keys of one account, in this order, are KEYS[1..14] of every script:
--   1-4  lists of the queue by priority step 0, 3, 6, 9; the right end is the front
--   5 delayed (zset message -> due ms)      6 held (zset message -> first grant us)   7 groups (list of cmsgpack)
--   8 meta (hash)                           9 ring (string, 8-byte doubles)          10 flight (zset grant -> lease end ms)
--  11 unacked (hash grant -> cmsgpack)     12 idem (hash key -> "id end_ms")          13 idem_ends (zset key -> end ms)
--  14 dead-letter list of the provider
-- Time is the server's, in ms with a fraction. A message is never re-encoded (cjson turns [] into {}): headers are spliced as text.

local LISTS = { KEYS[1], KEYS[2], KEYS[3], KEYS[4] }
local DELAYED, HELD, GROUPS, META, RING, FLIGHT, UNACKED, IDEM, IDEM_ENDS, DEAD =
  KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14]

local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = now_us / 1000

-- The k-th latest response is read at a fixed offset, so appended times must never go back, even if the clock does.
local function charge(meta_seq, meta_last, size)
  if size <= 0 then return meta_seq, meta_last end
  local at = now
  if meta_last > at then at = meta_last end
  redis.call('SETRANGE', RING, (meta_seq % size) * 8, struct.pack('>d', at))
  redis.call('HSET', META, 'seq', meta_seq + 1, 'last', string.format('%.3f', at))
  return meta_seq + 1, at
end

-- Span of the value of a top-level key of a JSON object: first and last position, or nil. Walks the text, so a like-named key inside a string or a
-- nested object is never taken for it.
local function skip_string(raw, from)          -- from: position of the opening quote; returns that of the closing one
  local at = from + 1
  while true do
    local hit = string.find(raw, '["\\]', at)
    if not hit then return nil end
    if string.byte(raw, hit) == 34 then return hit end
    at = hit + 2
  end
end

local function skip_value(raw, from)
  local byte = string.byte(raw, from)
  if byte == 34 then return skip_string(raw, from) end
  if byte ~= 123 and byte ~= 91 then           -- number, true, false, null
    local stop = string.find(raw, '[,}%]%s]', from)
    return stop and stop - 1
  end
  local depth, at = 0, from
  while true do
    local hit = string.find(raw, '["{}%[%]]', at)
    if not hit then return nil end
    local b = string.byte(raw, hit)
    if b == 34 then
      hit = skip_string(raw, hit)
      if not hit then return nil end
    elseif b == 123 or b == 91 then
      depth = depth + 1
    else
      depth = depth - 1
      if depth == 0 then return hit end
    end
    at = hit + 1
  end
end

-- Key span and value span of `name` in the object that opens at `open`.
local function find_key(raw, open, name)
  local at = open + 1
  while true do
    local quote = string.find(raw, '[^%s,]', at)
    if not quote or string.byte(raw, quote) ~= 34 then return nil end
    local close = skip_string(raw, quote)
    if not close then return nil end
    local value = string.find(raw, '[^%s:]', close + 1)
    if not value then return nil end
    local stop = skip_value(raw, value)
    if not stop then return nil end
    if string.sub(raw, quote + 1, close - 1) == name then return quote, value, stop end
    at = stop + 1
  end
end

-- The message with header `name` set to the JSON text `value`, replacing an older one; nil if it is no message.
local function with_header(raw, name, value)
  local open = string.find(raw, '%S')
  if not open or string.byte(raw, open) ~= 123 then return nil end
  local _, headers = find_key(raw, open, 'headers')
  if not headers or string.byte(raw, headers) ~= 123 then return nil end
  local _, from, to = find_key(raw, headers, name)
  if from then return string.sub(raw, 1, from - 1) .. value .. string.sub(raw, to + 1) end
  local comma = string.find(raw, '^%s*}', headers + 1) and '' or ', '
  return string.sub(raw, 1, headers) .. '"' .. name .. '": ' .. value .. comma .. string.sub(raw, headers + 1)
end

-- An event's delivery state travels in its header `postback`: "attempts=2 tries=1 first=1732240000000000 duplicate=1 crashes=0 polls=0 due=0".
local FIELDS = { 'attempts', 'tries', 'first', 'duplicate', 'crashes', 'polls', 'due' }

local function state_of(raw)
  local state = { attempts = 0, tries = 0, first = 0, duplicate = 0, crashes = 0, polls = 0, due = 0 }
  local from = string.find(raw, '"postback"', 1, true)
  local text = from and string.match(raw, '^"postback"%s*:%s*"([^"]*)"', from)
  if text then
    for key, value in string.gmatch(text, '(%a+)=([%d%.]+)') do state[key] = tonumber(value) or 0 end
  end
  return state
end

local function with_state(raw, state)
  local words = {}
  for i, key in ipairs(FIELDS) do
    if state[key] ~= 0 then words[#words + 1] = key .. '=' .. string.format('%.0f', state[key]) end
  end
  return with_header(raw, 'postback', '"' .. table.concat(words, ' ') .. '"') or raw
end

local function header_text(raw, name)          -- a plain string header, or nil
  local from = string.find(raw, '"' .. name .. '"', 1, true)
  return from and string.match(raw, '^"[%w_]+"%s*:%s*"([^"\\]*)"', from)
end

local function priority_list(raw)
  local from = string.find(raw, '"priority"', 1, true)
  local n = from and tonumber(string.match(raw, '^"priority"%s*:%s*(%d+)', from)) or 0
  return LISTS[n >= 9 and 4 or n >= 6 and 3 or n >= 3 and 2 or 1]
end

local function to_front(raw) redis.call('RPUSH', priority_list(raw), raw) end

local function release_key(raw)
  local key = header_text(raw, 'postback_key')
  if not key then return end
  local owner = redis.call('HGET', IDEM, key)
  if owner and string.match(owner, '^(%S+)') == header_text(raw, 'id') then
    redis.call('HDEL', IDEM, key)
    redis.call('ZREM', IDEM_ENDS, key)
  end
end

-- Dead letters carry their reason with them; a raw text that is no message is kept as it is.
local function bury(raw, state, letter)
  release_key(raw)
  local stated = with_state(raw, state)
  redis.call('LPUSH', DEAD, with_header(stated, 'postback_dead', letter) or raw)
end
