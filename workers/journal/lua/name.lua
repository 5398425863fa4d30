-- NAME: the name of this Redis in the journal's database. The first call makes it.
--
-- KEYS  1 postback.journal (hash)
-- ARGV  1 the name, if it has none yet
-- Returns it. O(1).

-- A full Redis refuses a script if its first write could take memory, and finishes one that has
-- written. HDEL takes none.
redis.call('HDEL', KEYS[1], '')
redis.call('HSETNX', KEYS[1], 'id', ARGV[1])
return redis.call('HGET', KEYS[1], 'id')
