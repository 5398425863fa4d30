-- queued(): number of messages in the lists. empty(): TAKE's reply if there is nothing to take,
-- with the time until a message is due. O(1).

-- @include clock
-- @include keys

local function queued()
  local total = 0
  for i = 1, 4 do total = total + redis.call('LLEN', KEY.LISTS[i]) end
  return total
end

local function empty()
  local soonest
  for _, zset in ipairs({ KEY.DELAYED, KEY.FLIGHT }) do
    local first = redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2]
    if first and (not soonest or tonumber(first) < soonest) then soonest = tonumber(first) end
  end
  if not soonest then return { 'state', 'empty' } end
  return { 'state', 'empty', 'due_ms', math.max(1, math.ceil(soonest - now)) }
end
