-- MOVE_DEAD: takes exact entries out of a dead-letter list and pushes what becomes of them to the back of queues, in one step.
-- An entry is moved only if the list still has these very bytes at that place: of two operators who read the same entries one moves them, and
-- whatever is killed, an entry is in one list or in the other. The other entries keep their bytes and their order.
--
-- KEYS  1 dead-letter list    2.. lists to push to
-- ARGV  1 passed: entries at the right end (the oldest) that the caller has dealt with    2 read: how many it has read behind them
--       3 a text that is no entry
--       4.. for each entry to move, the oldest first: its place 1..read (1 is the oldest), its bytes, number of its list in KEYS or 0 for none,
--           what to push
-- Returns the places that were moved. O(passed + read), without copying what is passed by.

local dead, passed, count, tombstone = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
-- Lua passes so many arguments to one command at most.
local MOST = 500

-- A full Redis lets a script finish that has written, and refuses one whose first write could take memory.
redis.call('LTRIM', dead, 0, -1)
local slice = redis.call('LRANGE', dead, -(passed + count), -(passed + 1))
local moved, pushes = {}, {}
for at = 4, #ARGV, 4 do
  local place, list = tonumber(ARGV[at]), tonumber(ARGV[at + 2])
  if slice[#slice - place + 1] == ARGV[at + 1] then
    moved[#moved + 1] = place
    if list > 0 then
      pushes[list] = pushes[list] or {}
      table.insert(pushes[list], ARGV[at + 3])
    end
  end
end

if passed == 0 and #moved == #slice then
  redis.call('LTRIM', dead, 0, -(#slice + 1))
elseif #moved > 0 then
  for _, place in ipairs(moved) do redis.call('LSET', dead, -(passed + place), tombstone) end
  redis.call('LREM', dead, -#moved, tombstone)
end

for list, messages in pairs(pushes) do
  for from = 1, #messages, MOST do
    redis.call('LPUSH', KEYS[list], unpack(messages, from, math.min(from + MOST - 1, #messages)))
  end
end
return moved
