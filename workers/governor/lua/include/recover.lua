-- recover(): ends grants whose lease has ended: the worker died or was cut off. The request may
-- have arrived, so it is charged, and its events may be duplicates.
-- Returns true if it has done its part: there may be more. O(PART messages).

-- @include bounds
-- @include flight
-- @include logs

-- If another account of the quota has found it first, it is already charged.
local function charge_lapsed(id)
  for _, log in ipairs(logs) do
    if log.hash == KEY.META or redis.call('ZREM', flight_of(log), id) == 1 then charge(log) end
  end
end

-- The latest goes first, so that the oldest ends at the front.
local function recover()
  read_account({ 'grace' })
  if account.grace > now then return false end
  local ids = redis.call('ZREVRANGEBYSCORE', KEY.FLIGHT, now, '-inf', 'LIMIT', 0, LOOK_AHEAD)
  -- @include crashed
  local expired, messages = {}, 0
  for _, id in ipairs(ids) do
    if messages >= PART then break end
    charge_lapsed(id)
    local grant = grant_of(id)
    grant.id = id
    expired[#expired + 1] = grant
    messages = messages + #grant.raws + #grant.sibling
  end
  table.sort(expired, function(a, b) return a.at > b.at end)
  for _, grant in ipairs(expired) do put_back(grant) end
  looks = looks + REWRITTEN * messages
  return messages >= PART
end
