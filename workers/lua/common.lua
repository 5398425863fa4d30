-- Shared by every script of the governor; loaded in front of each (see workers/scripts.py).
--
-- The keys of one account, in this order, are KEYS[1..15] of every script, and 16 where a hook hears of dead letters:
--   1-4  lists of the queue by priority step 0, 3, 6, 9; the right end is the front
--   5 delayed (zset message -> due ms)      6 held (zset message -> first grant us)   7 groups (list of cmsgpack)
--   8 meta (hash)                           9 ring (string, 8-byte doubles)          10 flight (zset grant -> lease end ms)
--  11 unacked (hash grant -> cmsgpack)     12 idem (hash key -> "id end_ms tag")      13 idem_ends (zset key -> end ms)
--  14 dead-letter list of the provider      15 revoked (zset event id -> ms)         16 notices (list: dead letters that the hook has not heard of)
-- Time is the server's, in ms with a fraction. A message is never re-encoded (cjson turns [] into {}): headers are spliced as text.
-- Every loop is a `for` whose first line bounds it (ADR 22).

local LISTS = { KEYS[1], KEYS[2], KEYS[3], KEYS[4] }
local DELAYED, HELD, GROUPS, META, RING, FLIGHT, UNACKED, IDEM, IDEM_ENDS, DEAD, REVOKED, NOTICES =
  KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14], KEYS[15], KEYS[16]

-- A full Redis refuses a script whose first write could take memory, and lets it finish once it has written. What frees memory must run just then.
redis.call('HDEL', META, '')

-- Stands in a grant for a message that RECONCILE did not find: SETTLE counts a grant's messages.
local MISSING = 'postback:missing'

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

-- Makes room for `wanted` requests in the ring. It only grows: old and new workers with different limits may run side by side. What an older, smaller
-- log has forgotten is taken to be as young as the oldest entry that it still knows.
local function grow(seq, size, wanted)
  if wanted <= size then return size end
  local entries = math.min(seq, size)
  if entries > 0 then
    local ring, first = redis.call('GETRANGE', RING, 0, -1), ((seq - entries) % size) * 8
    local times = string.sub(string.sub(ring, first + 1) .. string.sub(ring, 1, first), 1, entries * 8)   -- the oldest first
    local missing = math.min(seq, wanted) - entries
    times = string.rep(string.sub(times, 1, 8), missing) .. times
    local place = (seq - entries - missing) % wanted
    local before_end = (wanted - place) * 8
    redis.call('DEL', RING)
    redis.call('SETRANGE', RING, place * 8, string.sub(times, 1, before_end))
    if #times > before_end then redis.call('SETRANGE', RING, 0, string.sub(times, before_end + 1)) end
  end
  redis.call('HSET', META, 'size', wanted)
  return wanted
end

-- Span of the value of a top-level key of a JSON object: first and last position, or nil. Walks the text, so a like-named key inside a string or a
-- nested object is never taken for it.
local function skip_string(raw, from)          -- from: position of the opening quote; returns that of the closing one
  local at = from + 1
  for _ = 1, #raw do
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
  for _ = 1, #raw do
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
  for _ = 1, #raw do
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

-- Position of the opening brace of the object under a top-level key; nil if it is no message.
local function object_at(raw, name)
  local open = string.find(raw, '%S')
  if not open or string.byte(raw, open) ~= 123 then return nil end
  local _, at = find_key(raw, open, name)
  return at and string.byte(raw, at) == 123 and at or nil
end

-- The message with header `name` set to the JSON text `value`, replacing an older one; nil if it is no message.
local function with_header(raw, name, value)
  local headers = object_at(raw, 'headers')
  if not headers then return nil end
  local _, from, to = find_key(raw, headers, name)
  if from then return string.sub(raw, 1, from - 1) .. value .. string.sub(raw, to + 1) end
  local comma = string.find(raw, '^%s*}', headers + 1) and '' or ', '
  return string.sub(raw, 1, headers) .. '"' .. name .. '": ' .. value .. comma .. string.sub(raw, headers + 1)
end

-- The text of header `name` if it is a string, or nil. Most messages have none, or null: a plain search tells so at a tenth of the cost of the walk.
local function header_text(raw, name)
  local quoted, from, text_follows = '"' .. name .. '"', 0, false
  for _ = 1, #raw do
    from = string.find(raw, quoted, from + 1, true)
    if not from then return nil end
    text_follows = string.find(raw, '^%s*:%s*"', from + #quoted)
    if text_follows then break end
  end
  local headers = object_at(raw, 'headers')
  if not headers then return nil end
  local _, value, stop = find_key(raw, headers, name)
  return value and string.byte(raw, value) == 34 and string.sub(raw, value + 1, stop - 1) or nil
end

-- An event's delivery state travels in its header `postback`: "attempts=2 tries=1 first=1732240000000000 duplicate=1 age=1500".
-- Anybody may write it: a number outside its range is dropped. `tasks/grants.py` reads by the same rule.
--   attempts, tries   requests that counted, in all and in the current run of failures     odd      answers that are worth few attempts
--   first             time of the first grant, us      age       ms of back-off so far     due      end of the back-off, ms, while held aside
--   duplicate         1 if it may have been recorded   crashes   workers that died with it   polls   answers that were not final
local FIELDS = { 'attempts', 'tries', 'first', 'duplicate', 'crashes', 'polls', 'odd', 'age', 'due' }
local DAY_MS, MOST_COUNTED, MOST_STATE = 86400000, 100000, 400
local MOST = { attempts = MOST_COUNTED, tries = MOST_COUNTED, first = now_us + DAY_MS * 1000, duplicate = 1, crashes = MOST_COUNTED,
  polls = MOST_COUNTED, odd = MOST_COUNTED, age = 400 * DAY_MS, due = now + 400 * DAY_MS }

local function state_of(raw)
  local state = { attempts = 0, tries = 0, first = 0, duplicate = 0, crashes = 0, polls = 0, odd = 0, age = 0, due = 0 }
  local text = header_text(raw, 'postback')
  if text and #text <= MOST_STATE then
    for name, word in string.gmatch(text, '(%a+)=(%S+)') do
      local number = MOST[name] and #word <= 17 and string.find(word, '^%d+$') and tonumber(word)
      if number and number <= MOST[name] then state[name] = number end
    end
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

local function priority_list(raw)
  local from = string.find(raw, '"priority"', 1, true)
  if from and string.find(raw, '"priority"', from + 10, true) then   -- a header has that name too
    local properties = object_at(raw, 'properties')
    from = properties and find_key(raw, properties, 'priority')
  end
  local n = from and tonumber(string.match(raw, '^"priority"%s*:%s*(%d+)', from)) or 0
  return LISTS[n >= 9 and 4 or n >= 6 and 3 or n >= 3 and 2 or 1]
end

local function to_front(raw) redis.call('RPUSH', priority_list(raw), raw) end

-- As header_text; the walk, a third of a TAKE's time, only where the name stands there more than once.
local function plain_header(raw, name)
  local quoted = '"' .. name .. '"'
  local from = string.find(raw, quoted, 1, true)
  if not from then return nil end
  if string.find(raw, quoted, from + #quoted, true) then return header_text(raw, name) end
  return string.match(raw, '^%s*:%s*"([^"\\]*)"', from + #quoted) or header_text(raw, name)
end

-- A zset holds equal texts once: of two equal messages the second gets a tail of blanks, which JSON allows. It spells a number that nobody had before,
-- the time, so that ten thousand equal messages cost no more than different ones.
local BLANKS, TAIL, tails = { [0] = ' ', '\t', '\r', '\n' }, 27, 0
local function with_tail(raw)
  if string.find(raw, '^\n[ \t\r\n]+$', -TAIL) then raw = string.sub(raw, 1, -TAIL - 1) end
  local number, tail = now_us + tails, {}
  tails = tails + 1
  for i = 1, TAIL - 1 do
    tail[i] = BLANKS[number % 4]
    number = math.floor(number / 4)
  end
  return raw .. '\n' .. table.concat(tail)
end

local function add_to(zset, score, raw)
  local free = redis.call('ZADD', zset, 'NX', score, raw) == 1
  for _ = 1, 100 do                            -- more than once only if the clock went back
    if free then return end
    raw = with_tail(raw)
    free = redis.call('ZADD', zset, 'NX', score, raw) == 1
  end
  if not free then to_front(raw) end
end

local function tag_of(raw)
  local from = string.find(raw, '"delivery_tag"', 1, true)
  return from and string.match(raw, '^"delivery_tag"%s*:%s*"([^"\\%s]*)"', from) or ''
end

-- The id of the event that owns this one's idempotency key; '' if this message owns it, or claims it now. A message is known by its id and by its
-- delivery tag, which every publishing makes anew: what is delivered again passes, a second copy that was sent under the same id does not. An event
-- without an id has no key.
local function claim_key(raw, dedup)
  local key = plain_header(raw, 'postback_key')
  local id = key and plain_header(raw, 'id') or ''
  if id == '' then return '' end
  local tag = tag_of(raw)
  local owner = redis.call('HGET', IDEM, key)
  if owner then
    local first, ends, first_tag = string.match(owner, '^(.+) (%d+) (%S*)$')
    if first == id and first_tag == tag then return '' end
    if first and tonumber(ends) > now then return first end
  end
  redis.call('HSET', IDEM, key, id .. ' ' .. string.format('%.0f', now + dedup) .. ' ' .. tag)
  redis.call('ZADD', IDEM_ENDS, now + dedup, key)
  return ''
end

local function release_key(raw)
  local key = plain_header(raw, 'postback_key')
  if not key then return end
  local owner = redis.call('HGET', IDEM, key)
  local first, tag = string.match(owner or '', '^(.+) %d+ (%S*)$')
  if first and first == plain_header(raw, 'id') and tag == tag_of(raw) then
    redis.call('HDEL', IDEM, key)
    redis.call('ZREM', IDEM_ENDS, key)
  end
end

-- Dead letters carry their reason with them; a raw text that is no message is kept as it is. The event is over: nobody needs its tombstone.
local function bury(raw, state, letter)
  release_key(raw)
  local dead = with_header(with_state(raw, state), 'postback_dead', letter) or raw
  redis.call('LPUSH', DEAD, dead)
  if NOTICES then redis.call('LPUSH', NOTICES, dead) end
  redis.call('ZREM', REVOKED, plain_header(raw, 'id') or '')
end
