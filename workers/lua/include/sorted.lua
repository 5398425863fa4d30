-- add_to(zset, score, raw): adds a message to DELAYED or HELD. O(log n).

-- @include clock
-- @include message

-- A zset holds equal texts once: of two equal messages the second gets a tail of blanks, which JSON
-- allows. It spells a number that nobody had before, the time, so that ten thousand equal messages
-- cost no more than different ones.
local tails = 0

local function with_tail(raw)
  local BLANKS, TAIL = { [0] = ' ', '\t', '\r', '\n' }, 27
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
  local added = redis.call('ZADD', zset, 'NX', score, raw) == 1
  for _ = 1, 100 do                            -- more than once only if the clock went back
    if added then return end
    raw = with_tail(raw)
    added = redis.call('ZADD', zset, 'NX', score, raw) == 1
  end
  if not added then to_front(raw) end
end
