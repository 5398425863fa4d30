-- The line of accounts that wait for a place in their quota. A free place goes to the account that
-- waits longest (ADR 33). O(log n) each.

-- @include clock
-- @include keys
-- @include logs

-- Accounts in the line.
local waiting = 0
-- Accounts that joined a line in this call.
local joined = 0

local function line()
  return KEY.QUOTA .. '.waiting'
end

local function read_line()
  waiting = logs[1].line and redis.call('ZCARD', line()) or 0
end

-- Accounts that wait longer than this one.
local function ahead()
  return waiting > 0 and (redis.call('ZRANK', line(), KEY.QUEUE) or waiting) or 0
end

local function leave_line()
  if waiting == 0 then return end
  waiting = waiting - redis.call('ZREM', line(), KEY.QUEUE)
  if waiting == 0 then redis.call('HDEL', KEY.QUOTA, 'line') end
end
