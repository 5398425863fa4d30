-- The schedule (ADR 29). A queue in it is asked when its time has come, and a send to it changes
-- nothing; a queue in the timers is asked then, and a send to it has it asked at once.
-- Each O(log n).

-- @include clock
-- @include keys

-- Longest wait for anything: what a clock that jumped or a lost command did is over then.
local LONGEST_MS = 60000
-- Longest wait of a batch that fills: nobody is woken when it is full.
local FILLING_MS = 100

local function ask_at(at)
  redis.call('ZADD', KEY.SCHEDULE, math.floor(at), KEY.QUEUE)
end

-- Something was put back. If the queue stands in the schedule it is asked anyway.
local function something_waits()
  redis.call('ZADD', KEY.SCHEDULE, 'NX', math.floor(now), KEY.QUEUE)
end

-- An account that waits for an answer has got one; others that waited for it, too, come first.
local function reopen(others)
  local waiting = redis.call('EXISTS', KEY.LISTS[1], KEY.LISTS[2], KEY.LISTS[3], KEY.LISTS[4], KEY.GROUPS, KEY.HELD,
    KEY.DELAYED)
  if waiting > 0 then ask_at(now + (others and 1 or 0)) else redis.call('ZREM', KEY.SCHEDULE, KEY.QUEUE) end
end
