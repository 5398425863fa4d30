-- record(text): appends a record to the provider's stream of the journal (ADR 41). It does nothing
-- where the key has another type: deliveries go on. O(1).

-- @include keys

-- A record was added in this call.
local recorded = false

local function record(text)
  redis.pcall('XADD', KEY.JOURNAL, '*', 'record', text)
  recorded = true
end
