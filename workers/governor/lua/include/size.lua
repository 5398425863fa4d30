-- The task and the size of a message, for batches. task_of(raw): the task's name. body_bytes(raw):
-- bytes of the event in a request. Without the producer's number it is an estimate: the worker puts
-- back events that do not fit. O(bytes). Settings: extra_bytes.

-- @include json_text
-- @include message

local function task_of(raw) return plain_header(raw, 'task') or '?' end

local function body_bytes(raw)
  local extra = settings.extra_bytes + 1
  local from = string.find(raw, '"postback_size"', 1, true)
  local size = from and tonumber(string.match(raw, '^"postback_size"%s*:%s*(%d+)', from))
  if size then return size + extra end
  local start, quote = string.find(raw, '"body"%s*:%s*"')
  if not start then return #raw end
  local body = string.sub(raw, quote + 1, (skip_string(raw, quote) or #raw + 1) - 1)
  local length, escaped = #body, 0
  if string.find(raw, '"body_encoding"%s*:%s*"base64"') then
    -- "\\u0" in base64, at each of the three positions in a group of four letters.
    for _, pattern in ipairs({ 'XHUw', '[FVl1]x1M', '[159BFJNRVZdhlptx]cdT[A-D]' }) do
      escaped = escaped + select(2, string.gsub(body, pattern, '%0'))
    end
    length = length * 0.75 - 4 * escaped       -- six letters for two bytes of UTF-8
  else
    escaped = select(2, string.gsub(body, '\\\\u0%x%x%x', '%0'))
    length = length - 5 * escaped - select(2, string.gsub(body, '\\"', '%0'))
  end
  -- 100 bytes are around the event: the arguments' brackets, the account, the empty callbacks.
  return math.max(1, length - 100) + extra
end
