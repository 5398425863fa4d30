-- A walk over the text of a JSON object. A message is never re-encoded, since cjson turns [] into
-- {}: its headers are read and replaced as text. The walk does not confuse a key with one of the
-- same name in a string or a nested object. O(bytes).

-- Position of the closing quote of the string that opens at `from`, or nil. A plain search for
-- quotes is many times faster than one for a class. A quote is escaped if an odd number of
-- backslashes is before it.
local function skip_string(raw, from)
  local hit = from
  for _ = 1, #raw do
    hit = string.find(raw, '"', hit + 1, true)
    if not hit then return nil end
    local escaped = false
    for at = hit - 1, from + 1, -1 do
      if string.byte(raw, at) ~= 92 then break end
      escaped = not escaped
    end
    if not escaped then return hit end
  end
end

-- Last position of the value that begins at `from`, or nil.
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

-- In the object that opens at `open`: position of key `name`, first and last position of its value.
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

-- Position of the opening brace of the object under a top-level key, or nil.
local function object_at(raw, name)
  local open = string.find(raw, '%S')
  if not open or string.byte(raw, open) ~= 123 then return nil end
  local _, at = find_key(raw, open, name)
  return at and string.byte(raw, at) == 123 and at or nil
end
