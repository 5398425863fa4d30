-- MOVED: removes what the journal's database has, and notes when it was written.
--
-- KEYS  1 stream of a provider   2 its gap (hash): lost, since, until   3 postback.journal (hash)
-- ARGV  1 the id that follows the last one in the database; '' for none
--       2 lost records of the gap that the database has   3 ms: the end of that gap
--       4 ms: now
-- Returns nothing. O(removed).

-- A full Redis refuses a script if its first write could take memory, and finishes one that has
-- written. HDEL takes none.
redis.call('HDEL', KEYS[3], '')
if ARGV[1] ~= '' then redis.call('XTRIM', KEYS[1], 'MINID', ARGV[1]) end
if ARGV[2] ~= '0' then
  -- Workers may have added to it meanwhile.
  if redis.call('HINCRBY', KEYS[2], 'lost', '-' .. ARGV[2]) > 0 then
    redis.call('HSET', KEYS[2], 'since', ARGV[3])
  else
    redis.call('DEL', KEYS[2])
  end
end
redis.call('HSET', KEYS[3], 'at', ARGV[4])
