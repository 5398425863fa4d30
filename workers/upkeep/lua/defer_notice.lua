-- DEFER_NOTICE: puts a notice whose hook has failed behind the other failed ones. A notice that was
-- erased meanwhile stays erased.
--
-- KEYS  1 its list    2 list of failed notices; may be the same
-- ARGV  1 its bytes
-- Returns 1 if it was there, else 0. O(notices), O(1) for the one at the right end.

-- LREM goes first: it frees the memory that LPUSH needs, so that a full Redis does not refuse it.
local removed = redis.call('LREM', KEYS[1], -1, ARGV[1])
if removed == 1 then redis.call('LPUSH', KEYS[2], ARGV[1]) end
return removed
