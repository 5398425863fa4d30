-- SCAN: which of many accounts may have work? One call for all, so that a thousand idle accounts cost less than a dozen TAKEs.
-- KEYS  the keys to look at, `ARGV[1]` of them for each account
-- Returns the 1-based numbers of the accounts of which any key exists (an empty list or zset is no key). O(keys), in chunks.

local each = tonumber(ARGV[1])
local CHUNK = each * 64
local out = {}
for from = 1, #KEYS, CHUNK do
  local to = math.min(from + CHUNK - 1, #KEYS)
  if redis.call('EXISTS', unpack(KEYS, from, to)) > 0 then
    for at = from, to, each do
      if redis.call('EXISTS', unpack(KEYS, at, at + each - 1)) > 0 then out[#out + 1] = (at - 1) / each + 1 end
    end
  end
end
return out
