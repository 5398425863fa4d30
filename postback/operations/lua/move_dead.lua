-- MOVE_DEAD: takes exact entries out of a dead-letter list and pushes what they become to queues.
-- An entry is moved only if the list still has these bytes at that place. So if two operators read
-- the same entries, one of them moves them; and if a process is killed, an entry is in one list or
-- in the other. The other entries keep their bytes and their order.
--
-- KEYS  1 dead-letter list   2 the provider's journal (stream)   3.. lists to push to
-- ARGV  1 passed: entries at the right end (the oldest) that the caller has left there
--       2 read: entries that it has read behind them
--       3 a text that no entry has
--       4 the journal's record, without its time, detail and events
--       5.. for each entry to move, the oldest first: its place 1..read (1 is the oldest), its
--           bytes, the number of its list in KEYS or 0 for none, what to push, its event in the
--           record
-- Returns the places that were moved. O(passed + read); the passed entries are not copied.

-- @include note

local dead, passed, count, tombstone = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
-- Messages in one LPUSH: Lua's unpack has a limit.
local MOST = 500

-- A full Redis refuses a script if its first write could take memory, and finishes one that has
-- written. LTRIM takes none.
redis.call('LTRIM', dead, 0, -1)
local slice = redis.call('LRANGE', dead, -(passed + count), -(passed + 1))
local moved, pushes, events = {}, {}, {}
for at = 5, #ARGV, 5 do
  local place, list = tonumber(ARGV[at]), tonumber(ARGV[at + 2])
  if slice[#slice - place + 1] == ARGV[at + 1] then
    moved[#moved + 1] = place
    events[#moved] = ARGV[at + 4]
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
if #moved > 0 then
  local detail = string.format('"detail": "%d dead letter%s"', #moved, #moved == 1 and '' or 's')
  note(KEYS[2], ARGV[4], detail .. ', "events": [' .. table.concat(events, ', ') .. ']')
end
return moved
