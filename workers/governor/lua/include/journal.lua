-- record(text): appends a record to the provider's stream of the journal (ADR 41).
-- is_above(most): whether the stream has more records.
-- Neither fails where the key has another type: deliveries go on. O(1).

-- @include keys

-- A record was added in this call.
local recorded = false

local function record(text)
  redis.pcall('XADD', KEY.JOURNAL, '*', 'record', text)
  recorded = true
end

local function is_above(most)
  local length = redis.pcall('XLEN', KEY.JOURNAL)
  return type(length) == 'number' and length > most
end
