-- PACKED: the messages that stand packed together: halves of refused batches, and what is in flight. Reads only.
--
-- KEYS  1 groups (list of cmsgpack)   2 unacked (hash grant -> cmsgpack)
-- Returns { {messages in groups}, {messages in flight} }. O(messages).

local function all_of(packed_list)
  local raws = {}
  for _, packed in ipairs(packed_list) do
    local unpacked = cmsgpack.unpack(packed)
    for _, raw in ipairs(unpacked.raws) do raws[#raws + 1] = raw end
    for _, raw in ipairs(unpacked.sibling or {}) do raws[#raws + 1] = raw end
  end
  return raws
end

return { all_of(redis.call('LRANGE', KEYS[1], 0, -1)), all_of(redis.call('HVALS', KEYS[2])) }
