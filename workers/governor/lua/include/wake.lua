-- wake_others(): makes other accounts due that waited for this answer. Accounts of the same
-- credential wait until it is healthy: then all are woken, before that one of them. If a place in
-- the quota was not used, the account that waits longest for it is woken. O(accounts that waited).

-- @include credential
-- @include line
-- @include schedule

-- Most accounts to wake at once. The others are asked when the lease of that request ends.
local MOST_WOKEN = 500

local function ask_now(queue)
  if queue == KEY.QUEUE then return 0 end
  return redis.call('ZADD', KEY.SCHEDULE, 'XX', 'LT', 'CH', math.floor(now), queue)
end

-- Returns whether any account was woken.
local function wake_others()
  local woken = 0
  local most = credential.healthy == 1 and MOST_WOKEN or 1
  local blocked = redis.call('ZPOPMIN', KEY.CREDENTIAL .. '.blocked', most)
  for at = 1, #blocked, 2 do woken = woken + ask_now(blocked[at]) end
  if answer.health == 'none' then
    local first = redis.call('ZRANGE', line(), 0, 0)[1]
    if first then woken = woken + ask_now(first) end
  end
  if woken > 0 then
    redis.call('PUBLISH', 'postback.wake.' .. string.match(KEY.QUEUE, '^[^.]*'), '')
  end
  return woken > 0
end
