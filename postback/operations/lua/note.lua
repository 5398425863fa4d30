-- NOTE: adds a record of what an operator did, where no script did it.
--
-- KEYS  1 the provider's journal (stream)   2 its gap (hash)
-- ARGV  1 the record, a JSON object without its time
-- O(bytes).

-- @include note

-- A full Redis refuses a script if its first write could take memory, and finishes one that has
-- written. HDEL takes none.
redis.pcall('HDEL', KEYS[2], '')
note(KEYS[1], ARGV[1])
