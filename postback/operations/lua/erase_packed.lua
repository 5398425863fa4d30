-- ERASE_PACKED: removes exact messages from the halves of refused batches. The rest of a half stays
-- together. A half without any rest is removed.
--
-- KEYS  1 groups (list of cmsgpack)
-- ARGV  1 first, 2 last: places to look at, as for LRANGE
--       3 a text that no entry has
--       4.. the messages' bytes
-- Returns how many were removed. O(messages of the part + places).

local erased = {}
for at = 4, #ARGV do erased[ARGV[at]] = true end

local removed = 0
local function kept(raws)
  local rest = {}
  for _, raw in ipairs(raws or {}) do
    if erased[raw] then removed = removed + 1 else rest[#rest + 1] = raw end
  end
  return rest
end

-- A full Redis refuses a script if its first write could take memory, and finishes one that has
-- written. LTRIM takes none. LSET could.
redis.call('LTRIM', KEYS[1], 0, -1)
for i, packed in ipairs(redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[2])) do
  local before, group = removed, cmsgpack.unpack(packed)
  group.raws, group.sibling = kept(group.raws), kept(group.sibling)
  if removed > before then
    if #group.raws == 0 then group.raws, group.sibling = group.sibling, {} end
    redis.call('LSET', KEYS[1], ARGV[1] + i - 1, #group.raws > 0 and cmsgpack.pack(group) or ARGV[3])
  end
end
redis.call('LREM', KEYS[1], 0, ARGV[3])
return removed
