-- The quota log (ADR 3): the times of the latest answers in a ring of `account.size` places. The
-- next one is written at `account.seq` modulo the size. Fields: seq, last, size.

-- @include account
-- @include clock

-- One answer more, now. The k-th latest is read at a fixed offset, so that times must never go
-- back, even if the clock does. O(1).
local function charge()
  if account.size <= 0 then return end
  local at = now
  if account.last > at then at = account.last end
  redis.call('SETRANGE', KEY.RING, (account.seq % account.size) * 8, struct.pack('>d', at))
  account.seq, account.last = account.seq + 1, at
  redis.call('HSET', KEY.META, 'seq', account.seq, 'last', string.format('%.3f', at))
end
