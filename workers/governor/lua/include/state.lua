-- An event's delivery state, in its header `postback`:
-- "attempts=2 tries=1 first=1732240000000000 duplicate=1 age=1500" (ADR 5).
-- Anybody may write it, so a number outside its range is ignored. `postback/wire/state.py` has the
-- same rule.
--   attempts, tries   requests that counted: in all, and in the current run of failures
--   first             time of the first grant, us
--   duplicate         1 if it may have been recorded
--   crashes           workers that died with it
--   polls             answers that were not final
--   odd               answers that were worth few attempts
--   age               ms of back-off so far
--   due               end of the back-off, ms, while held aside

-- @include clock
-- @include json_text
-- @include message

-- The message with header `name` set to the JSON text `value`, in place of an older one; nil if it
-- is no message.
local function with_header(raw, name, value)
  local headers = object_at(raw, 'headers')
  if not headers then return nil end
  local _, from, to = find_key(raw, headers, name)
  if from then return string.sub(raw, 1, from - 1) .. value .. string.sub(raw, to + 1) end
  local comma = string.find(raw, '^%s*}', headers + 1) and '' or ', '
  local field = '"' .. name .. '": ' .. value .. comma
  return string.sub(raw, 1, headers) .. field .. string.sub(raw, headers + 1)
end

local function state_of(raw)
  local state = { attempts = 0, tries = 0, first = 0, duplicate = 0, crashes = 0, polls = 0, odd = 0, age = 0, due = 0 }
  local text = header_text(raw, 'postback')
  if text and #text <= 400 then
    local counted, days = 100000, 400 * DAY_MS
    local most = { attempts = counted, tries = counted, first = now_us + DAY_MS * 1000, duplicate = 1,
      crashes = counted, polls = counted, odd = counted, age = days, due = now + days }
    for name, word in string.gmatch(text, '(%a+)=(%S+)') do
      local number = most[name] and #word <= 17 and string.find(word, '^%d+$') and tonumber(word)
      if number and number <= most[name] then state[name] = number end
    end
  end
  return state
end

local function with_state(raw, state)
  local words = {}
  for _, name in ipairs({ 'attempts', 'tries', 'first', 'duplicate', 'crashes', 'polls', 'odd', 'age', 'due' }) do
    if state[name] ~= 0 then words[#words + 1] = name .. '=' .. string.format('%.0f', state[name]) end
  end
  return with_header(raw, 'postback', '"' .. table.concat(words, ' ') .. '"') or raw
end

-- An outage was not this event's fault: its failures no longer count.
local function give_back(state)
  state.attempts, state.age = math.max(0, state.attempts - state.tries), 0
end
