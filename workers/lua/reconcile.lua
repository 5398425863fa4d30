-- RECONCILE: tells a Redis that may have forgotten its last second (restart, failover) of one grant that a worker knows.
-- If the grant is in flight here, its TAKE was not forgotten. Otherwise its messages may be back where TAKE found them: they are taken out once more
-- and registered, so that its SETTLE can be applied (again). If they are not there, an answer that is in was settled and is charged once more, to be
-- safe; a request on its way is registered without messages, so that it counts.
--
-- KEYS  see common.lua
-- ARGV  1 grant   2 settled: 1 if its answer is in   3 lease_ms   4 granted_us   5 group 0|1   6 dedup_ms   7 number of own messages
--       8 a character for each of these: 1 if it was a duplicate of another event, else 0   9 largest limit of a window, or 0
--       10.. messages, siblings
-- Returns 1 if the grant is in flight now, else 0. O(messages x place in the list, of which it looks at DEPTH).

local id, settled, lease, at, group = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local dedup, own, duplicates, wanted = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[9])
-- What was taken lately comes to stand near the front. Looking through a whole backlog for a message that is not there would stop Redis.
local DEPTH = 2000
-- The same for halves of refused batches.
local HALVES = 200

if redis.call('ZSCORE', FLIGHT, id) then return 1 end

local function take_out(raw)
  local list = priority_list(raw)
  if redis.call('LPOS', list, raw, 'RANK', -1, 'MAXLEN', DEPTH) then return redis.call('LREM', list, -1, raw) end
  return redis.call('ZREM', DELAYED, raw) + redis.call('ZREM', HELD, raw)
end

local whole = false
for _, packed in ipairs(group == 1 and redis.call('LRANGE', GROUPS, -HALVES, -1) or {}) do
  local half = cmsgpack.unpack(packed)
  whole = #half.raws == own
  for i = 1, own do whole = whole and half.raws[i] == ARGV[9 + i] end
  if whole then
    redis.call('LREM', GROUPS, -1, packed)
    break
  end
end
local raws, owners, sibling, found = {}, {}, {}, false
for i = 1, #ARGV - 9 do
  local raw = ARGV[9 + i]
  if whole or take_out(raw) > 0 then found = true else raw = MISSING end
  if i <= own then
    raws[i] = raw
    owners[i] = string.sub(duplicates, i, i) == '1' and '?' or claim_key(raw, dedup)
  else
    sibling[#sibling + 1] = raw
  end
end

-- Nobody can charge a ring that was forgotten whole.
local m = redis.call('HMGET', META, 'seq', 'last', 'size')
local seq, last = tonumber(m[1] or 0), tonumber(m[2] or 0)
local size = grow(seq, tonumber(m[3] or 0), wanted)
if not found and settled then
  charge(seq, last, size)
  return 0
end
redis.call('ZADD', FLIGHT, now + lease, id)
redis.call('HSET', UNACKED, id, cmsgpack.pack({ at = at, raws = raws, owners = owners, sibling = sibling, group = group }))
return 1
