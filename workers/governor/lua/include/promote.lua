-- promote(): due messages go to the front, the soonest last. Returns true if it has done its part:
-- nothing is taken before all have moved, so that their order holds. O(LOOK_AHEAD messages).

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
