-- The line of accounts that wait for a place in their quota: a place that is free goes to the one that
-- waits longest (ADR 33). O(log n) each.

-- @include clock
-- @include keys
-- @include logs

-- How many stand in it.
local waiting = 0
-- So many have joined a line in this call.
local came = 0

local function line()
  return KEY.QUOTA .. '.waiting'
end

local function read_line()
  waiting = logs[1].line and redis.call('ZCARD', line()) or 0
end

-- How many wait longer than this account.
local function ahead()
  return waiting > 0 and (redis.call('ZRANK', line(), KEY.QUEUE) or waiting) or 0
end

local function leave_line()
  if waiting == 0 then return end
  waiting = waiting - redis.call('ZREM', line(), KEY.QUEUE)
  if waiting == 0 then redis.call('HDEL', KEY.QUOTA, 'line') end
end
