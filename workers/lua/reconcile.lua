-- RECONCILE: tells a Redis that may have forgotten its last second (restart, failover) of one grant that a worker knows.
-- If the grant is known here, nothing was lost. Otherwise its TAKE was forgotten: its messages are in their lists again. They are taken out once
-- more, registered if the request is still on its way, and the quota is charged either way.
--
-- KEYS  see common.lua
-- ARGV  1 grant   2 settled: 1 if its answer is in   3 lease_ms   4 granted_us   5 group 0|1   6 number of own messages   7.. messages, siblings
-- Returns how many messages were taken out. O(messages x place in the list; they are near the front).

local id, settled, lease, at, group, own = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if redis.call('ZSCORE', FLIGHT, id) then return 0 end
local m = redis.call('HMGET', META, 'seq', 'last', 'size')
local raws, owners, sibling, found = {}, {}, {}, 0
for i = 7, #ARGV do
  local raw = ARGV[i]
  local gone = redis.call('LREM', priority_list(raw), -1, raw) + redis.call('ZREM', DELAYED, raw) + redis.call('ZREM', HELD, raw)
  if gone > 0 then
    found = found + 1
    if i < 7 + own then
      raws[#raws + 1] = raw
      owners[#owners + 1] = ''
    else
      sibling[#sibling + 1] = raw
    end
  end
end
if settled then
  charge(tonumber(m[1] or 0), tonumber(m[2] or 0), tonumber(m[3] or 0))
elseif #raws > 0 then
  redis.call('ZADD', FLIGHT, now + lease, id)
  redis.call('HSET', UNACKED, id, cmsgpack.pack({ at = at, raws = raws, owners = owners, sibling = sibling, group = group }))
end
return found
