-- not_due(raw): when a message is due, ms, if that is later than now; else nil. Any Celery client
-- may set the time in the header `eta`. O(bytes).

-- @include clock
-- @include message

local function not_due(raw)
  local text = header_text(raw, 'eta')
  if not text then return nil end
  -- @include iso_time
  local at = iso_ms(text)
  return at and at > now and at or nil
end
