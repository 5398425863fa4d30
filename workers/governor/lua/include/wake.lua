-- wake_others(): other accounts waited for this answer, too: those of the same credential until it is
-- healthy again, all at once then and one of them before; that of the same quota which waits
-- longest, for a place that was not used. O(accounts that waited).

-- @include credential
-- @include line
-- @include schedule

-- Most that are woken at once; those behind them are asked when the lease of that request ends.
local MOST_WOKEN = 500

local function ask_now(queue)
  if queue == KEY.QUEUE then return 0 end
  return redis.call('ZADD', KEY.SCHEDULE, 'XX', 'LT', 'CH', math.floor(now), queue)
end

-- Returns whether there were any.
local function wake_others()
  local woken = 0
  local blocked = redis.call('ZPOPMIN', KEY.CREDENTIAL .. '.blocked', credential.healthy == 1 and MOST_WOKEN or 1)
  for at = 1, #blocked, 2 do woken = woken + ask_now(blocked[at]) end
  if answer.health == 'none' then
    local first = redis.call('ZRANGE', line(), 0, 0)[1]
    if first then woken = woken + ask_now(first) end
  end
  if woken > 0 then redis.call('PUBLISH', 'postback.wake.' .. string.match(KEY.QUEUE, '^[^.]*'), '') end
  return woken > 0
end
