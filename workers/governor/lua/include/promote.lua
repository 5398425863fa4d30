-- promote(): moves due messages to the front, the soonest last. Returns true if there may be more.
-- Nothing is taken before all have moved, so that they keep their order. O(LOOK_AHEAD messages).

-- @include bounds
-- @include clock
-- @include front

local function promote()
  local due = redis.call('ZREVRANGEBYSCORE', KEY.DELAYED, now, '-inf', 'LIMIT', 0, LOOK_AHEAD)
  for _, raw in ipairs(due) do to_front(raw) end
  if #due > 0 then redis.call('ZREM', KEY.DELAYED, unpack(due)) end
  looks = looks + MOVED * #due
  return #due == LOOK_AHEAD
end
