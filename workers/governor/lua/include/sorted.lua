-- add_to(zset, score, raw): adds a message to DELAYED or HELD. O(log n).

-- @include bounds
-- @include clock

local function add_to(zset, score, raw)
  if redis.call('ZADD', zset, 'NX', score, raw) == 1 then return end
  -- @include front
  -- @include tail
  for _ = 1, 100 do                            -- more than once only if the clock went back
    raw = with_tail(raw, now_us + tails)
    tails = tails + 1
    if redis.call('ZADD', zset, 'NX', score, raw) == 1 then return end
  end
  to_front(raw)
end
