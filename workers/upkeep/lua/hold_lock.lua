-- HOLD_LOCK: takes, renews or releases a right that one process has at a time: to call the hook for
-- a provider's dead letters, to write the journal's database.
--
-- KEYS  1 lock (string)
-- ARGV  1 token of the process    2 ms for which it holds the lock; 0 releases it
-- Returns 1 if the process holds it now, else 0. O(1).

local token, ms = ARGV[1], tonumber(ARGV[2])
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= token then return 0 end
if ms == 0 then
  redis.call('DEL', KEYS[1])
  return 0
end
-- DEL goes first: a full Redis refuses a SET unless the script has already written. Notices and
-- records are among the things that fill it.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], token, 'PX', ms)
return 1
