-- push_half(raws, sibling): a half of a refused batch, to travel as one request. O(bytes).

-- @include keys

local function push_half(raws, sibling)
  redis.call('RPUSH', KEY.GROUPS, cmsgpack.pack({ raws = raws, sibling = sibling }))
end
