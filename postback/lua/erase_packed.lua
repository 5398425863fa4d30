-- ERASE_PACKED: removes exact messages from the halves of refused batches. What is left of a half stays together; a half of which nothing is left goes.
--
-- KEYS  1 groups (list of cmsgpack)
-- ARGV  1 a text that is no entry    2.. the messages' bytes
-- Returns how many were removed. O(messages in groups + groups^2); there are a handful.

local erased = {}
for at = 2, #ARGV do erased[ARGV[at]] = true end

local removed = 0
local function kept(raws)
  local rest = {}
  for _, raw in ipairs(raws or {}) do
    if erased[raw] then removed = removed + 1 else rest[#rest + 1] = raw end
  end
  return rest
end

for i, packed in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  local before, group = removed, cmsgpack.unpack(packed)
  group.raws, group.sibling = kept(group.raws), kept(group.sibling)
  if removed > before then
    if #group.raws == 0 then group.raws, group.sibling = group.sibling, {} end
    redis.call('LSET', KEYS[1], i - 1, #group.raws > 0 and cmsgpack.pack(group) or ARGV[1])
  end
end
redis.call('LREM', KEYS[1], 0, ARGV[1])
return removed
