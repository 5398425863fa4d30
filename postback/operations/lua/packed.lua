-- PACKED: reads a part of the messages that are packed together: halves of refused batches, and
-- what is in flight.
--
-- KEYS  1 groups (list of cmsgpack)   2 unacked (hash grant -> cmsgpack)
-- ARGV  1 first place in groups, '' for none   2 cursor in unacked, '' for none   3 most of either
-- Returns { {messages in groups}, {messages in flight}, next place or '', next cursor or '' }.
-- O(messages of the part).

local first, cursor, most = ARGV[1], ARGV[2], tonumber(ARGV[3])

local function all_of(packed_list)
  local raws = {}
  for _, packed in ipairs(packed_list) do
    local unpacked = cmsgpack.unpack(packed)
    for _, raw in ipairs(unpacked.raws) do raws[#raws + 1] = raw end
    for _, raw in ipairs(unpacked.sibling or {}) do raws[#raws + 1] = raw end
  end
  return raws
end

local groups, flying = {}, {}
if first ~= '' then
  groups = redis.call('LRANGE', KEYS[1], first, first + most - 1)
  first = #groups == most and tostring(first + most) or ''
end
if cursor ~= '' then
  local reply = redis.call('HSCAN', KEYS[2], cursor, 'COUNT', most)
  for i = 2, #reply[2], 2 do flying[#flying + 1] = reply[2][i] end
  cursor = reply[1] ~= '0' and reply[1] or ''
end
return { all_of(groups), all_of(flying), first, cursor }
