-- PACKED: reads a part of the messages that are packed together: halves of refused batches, and
-- what is in flight.
--
-- KEYS  1 groups (list of cmsgpack)   2 unacked (hash grant -> cmsgpack)
-- ARGV  1 first place in groups, '' for none   2 cursor in unacked, '' for none   3 most of either
-- Returns { {messages in groups}, {{grant, granted ms, messages in flight, ...}, ...},
--           next place or '', next cursor or '' }.
-- O(messages of the part).

local first, cursor, most = ARGV[1], ARGV[2], tonumber(ARGV[3])

local function add_messages(raws, unpacked)
  for _, raw in ipairs(unpacked.raws) do raws[#raws + 1] = raw end
  for _, raw in ipairs(unpacked.sibling or {}) do raws[#raws + 1] = raw end
end

local halves, grants = {}, {}
if first ~= '' then
  local packed_list = redis.call('LRANGE', KEYS[1], first, first + most - 1)
  for _, packed in ipairs(packed_list) do add_messages(halves, cmsgpack.unpack(packed)) end
  first = #packed_list == most and tostring(first + most) or ''
end
if cursor ~= '' then
  local reply = redis.call('HSCAN', KEYS[2], cursor, 'COUNT', most)
  for i = 1, #reply[2], 2 do
    local unpacked = cmsgpack.unpack(reply[2][i + 1])
    grants[#grants + 1] = { reply[2][i], string.format('%.0f', (unpacked.at or 0) / 1000) }
    add_messages(grants[#grants], unpacked)
  end
  cursor = reply[1] ~= '0' and reply[1] or ''
end
return { halves, grants, first, cursor }
