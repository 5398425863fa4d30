-- choose(): takes out the messages of the next request: { raws, sibling, group }. A half of a
-- refused batch goes first, then a queued message, then one held aside.
-- If there is nothing it returns nil, and a reply as refuse() does. O(LOOK_AHEAD messages).
-- Settings: batch_max.

-- @include account
-- @include admit
-- @include bounds
-- @include due

-- Puts messages that are not due into DELAYED: { due ms, message, ... }.
local function delay(messages)
  if not messages then return end
  -- @include sorted
  for i = 1, #messages, 2 do add_to(KEY.DELAYED, messages[i], messages[i + 1]) end
end

-- Takes one message from the front; skips those that are not due.
local function pop_one()
  local passed
  for i = 1, 4 do
    for _ = 1, PART do
      local raw = redis.call('RPOP', KEY.LISTS[i])
      if not raw then break end
      looks = looks + 1
      local at = not_due(raw)
      if not at then
        delay(passed)
        return { raw }
      end
      passed = passed or {}
      passed[#passed + 1], passed[#passed + 2] = at, raw
    end
  end
  delay(passed)
end

local function half()
  local packed = redis.call('RPOP', KEY.GROUPS)
  if not packed then return nil end
  local unpacked = cmsgpack.unpack(packed)
  return { raws = unpacked.raws, sibling = unpacked.sibling, group = 1 }
end

local function choose()
  local raws, filling_ms, due_ms
  if settings.batch_max == 1 then              -- halves exist only if the account once had batches
    raws = pop_one()
    local left = not raws and half()
    if left then return left end
  else
    local first = half()
    if first then return first end
    -- @include batch
    raws, filling_ms = take_batch()
  end
  if filling_ms then
    return nil, { 'state', 'filling', 'wait_ms', math.max(1, math.ceil(filling_ms)) }
  end
  if not raws and account.fails > 0 then
    -- @include held
    raws, due_ms = take_held()
  end
  if raws then return { raws = raws, sibling = {}, group = 0, owners = false, at = 0 } end
  if due_ms then return nil, { 'state', 'empty', 'due_ms', math.max(1, math.ceil(due_ms)) } end
  -- @include empty
  -- All messages that it saw may be not due; others may be behind them.
  return nil, queued() == 0 and empty() or { 'state', 'more' }
end
