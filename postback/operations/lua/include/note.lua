-- Adds a record of what an operator did to a provider's journal (ADR 41), at this moment.
--   journal   the provider's stream
--   text      the record, a JSON object without its time
--   more      further fields of it, as JSON text without braces, or nil
-- A key of a wrong type, or a Redis user without the right, does not hinder the action itself.
-- O(bytes).

local function note(journal, text, more)
  local clock = redis.call('TIME')
  local at = string.format('{"at": %.0f, ', clock[1] * 1000 + math.floor(clock[2] / 1000))
  redis.pcall('XADD', journal, '*', 'record', at .. (more and more .. ', ' or '') .. string.sub(text, 2))
end
