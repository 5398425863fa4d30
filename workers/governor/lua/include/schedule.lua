-- The schedule and the timers (ADR 29). A queue in either is asked when its time has come. A send
-- to a queue in the schedule changes nothing. After a send to a queue in the timers it is asked at
-- once. Each O(log n).

-- @include clock
-- @include keys

-- Longest wait of any queue. It ends the effect of a clock that jumped or of a lost command.
local LONGEST_MS = 60000
-- Longest wait of a batch that fills: no worker is woken when it is full.
local FILLING_MS = 100

local function ask_at(at)
  redis.call('ZADD', KEY.SCHEDULE, math.floor(at), KEY.QUEUE)
end

-- A message was put back. If the queue is in the schedule, it is asked anyway.
local function something_waits()
  redis.call('ZADD', KEY.SCHEDULE, 'NX', math.floor(now), KEY.QUEUE)
end

-- The account has the answer that it waited for. If others waited for it, too, they go first.
local function reopen(others)
  local waiting = redis.call('EXISTS', KEY.LISTS[1], KEY.LISTS[2], KEY.LISTS[3], KEY.LISTS[4],
    KEY.GROUPS, KEY.HELD, KEY.DELAYED)
  if waiting > 0 then
    ask_at(now + (others and 1 or 0))
  else
    redis.call('ZREM', KEY.SCHEDULE, KEY.QUEUE)
  end
end
