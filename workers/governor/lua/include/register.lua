-- register(id, lease_end, grant): puts a grant in flight; see flight.lua. O(logs x log n).

-- @include keys
-- @include logs

local function register(id, lease_end, grant)
  redis.call('ZADD', KEY.FLIGHT, lease_end, id)
  for _, log in ipairs(logs) do
    if log.hash ~= KEY.META then redis.call('ZADD', flight_of(log), lease_end, id) end
  end
  if KEY.APART then redis.call('ZADD', KEY.CREDENTIAL .. '.flight', lease_end, id) end
  redis.call('HSET', KEY.UNACKED, id, cmsgpack.pack(grant))
end
