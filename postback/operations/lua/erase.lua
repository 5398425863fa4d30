-- ERASE: removes exact messages from one list or sorted set of an account, and releases the
-- idempotency keys that they own. The other messages keep their bytes and their order. In a list
-- the messages are looked for between two places, because entries move while somebody looks.
--
-- KEYS  1 list or zset of messages
--       2 idem (hash key -> "id end_ms")   3 idem_ends (zset key -> end ms)
-- ARGV  1 first, 2 last: places in a list, as for LRANGE
--       3 a text that no entry has
--       4.. for each message: its bytes, its id, its idempotency key or ''
-- Returns how many entries were removed. O(last); O(messages x log) for a zset.

local name, first, tombstone = KEYS[1], tonumber(ARGV[1]), ARGV[3]
local zset = redis.call('TYPE', name).ok == 'zset'
local gone, removed = {}, 0
-- A full Redis refuses a script if its first write could take memory, and finishes one that has
-- written. LTRIM takes none. LSET could.
if not zset then redis.call('LTRIM', name, 0, -1) end

if zset then
  for at = 4, #ARGV, 3 do
    gone[ARGV[at]] = redis.call('ZREM', name, ARGV[at]) == 1
    removed = removed + (gone[ARGV[at]] and 1 or 0)
  end
else
  local wanted = {}
  for at = 4, #ARGV, 3 do wanted[ARGV[at]] = true end
  for i, raw in ipairs(redis.call('LRANGE', name, first, ARGV[2])) do
    if wanted[raw] then
      redis.call('LSET', name, first + i - 1, tombstone)
      gone[raw] = true
      removed = removed + 1
    end
  end
  if removed > 0 then redis.call('LREM', name, removed, tombstone) end
end

for at = 4, #ARGV, 3 do
  local key = ARGV[at + 2]
  local owner = gone[ARGV[at]] and key ~= '' and redis.call('HGET', KEYS[2], key)
  if owner and string.match(owner, '^(.+) %d+ %S*$') == ARGV[at + 1] then
    redis.call('HDEL', KEYS[2], key)
    redis.call('ZREM', KEYS[3], key)
  end
end
return removed
