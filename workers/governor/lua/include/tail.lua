-- with_tail(raw, number): the message with a tail of blanks, which JSON allows; the blanks spell a
-- number. A zset holds equal texts only once, so the second of two equal messages gets a tail. The
-- number is the time, which no message had before. So ten thousand equal messages cost no more than
-- different ones. O(bytes).

local function with_tail(raw, number)
  local BLANKS, TAIL = { [0] = ' ', '\t', '\r', '\n' }, 27
  if string.find(raw, '^\n[ \t\r\n]+$', -TAIL) then raw = string.sub(raw, 1, -TAIL - 1) end
  local tail = {}
  for i = 1, TAIL - 1 do
    tail[i] = BLANKS[number % 4]
    number = math.floor(number / 4)
  end
  return raw .. '\n' .. table.concat(tail)
end
