-- register(id, lease_end, grant): a grant is in flight from now on; see flight.lua. O(log n).

-- @include keys

local function register(id, lease_end, grant)
  redis.call('ZADD', KEY.FLIGHT, lease_end, id)
  redis.call('HSET', KEY.UNACKED, id, cmsgpack.pack(grant))
end
