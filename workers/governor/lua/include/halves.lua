-- push_half(raws, sibling): queues a half of a refused batch as one request. O(bytes).

-- @include keys

local function push_half(raws, sibling)
  redis.call('RPUSH', KEY.GROUPS, cmsgpack.pack({ raws = raws, sibling = sibling }))
end
