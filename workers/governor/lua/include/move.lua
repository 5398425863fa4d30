-- move(): handles an account whose quota or credential has changed since its last TAKE. The log
-- that it leaves binds it for one more longest window; earlier logs go on to bind it. So no change
-- of the accounts file leads to a 429 (ADR 33). O(logs).
-- Fields: quota, former, paused, reason. Settings: windows.

-- @include credential
-- @include logs

-- Most logs that an account has left and that bind it: the latest.
local MOST_FORMER = 8

local function longest_ms(limits)
  local longest = 0
  for length in string.gmatch(limits or '', ':(%d+)') do
    longest = math.max(longest, tonumber(length))
  end
  for _, window in ipairs(settings.windows) do longest = math.max(longest, window.length_ms) end
  return longest
end

-- The log that it leaves, and until when that log binds it. Workers of the first edition may run
-- beside this one for some time.
local function left()
  if account.quota then
    if account.quota == KEY.QUOTA then return nil end
    return account.quota, now + longest_ms(logs[2] and logs[2].limits)
  end
  if redis.call('HEXISTS', KEY.META, 'seq') == 1 then
    return FIRST_EDITION, now + math.max(DAY_MS, longest_ms())
  end
end

-- The first edition kept every pause with the account. Fields: paused, reason.
local function hand_over_pause()
  local hash, until_field, since_field
  if account.reason == 'quota' then
    hash, until_field, since_field = KEY.QUOTA, 'frozen', 'frozen_at'
  elseif account.reason == 'credentials' then
    hash, until_field, since_field = KEY.CREDENTIAL, 'paused', 'since'
  end
  if not hash then return end
  local words = redis.call('HMGET', KEY.META, 'since', 'detail')
  redis.call('HSET', hash, until_field, string.format('%.0f', account.paused), since_field, words[1] or 0,
    'detail', words[2] or '')
  redis.call('HDEL', KEY.META, 'paused', 'reason', 'since', 'detail')
  account.paused, account.reason = 0, false
  read_credential()
end

local function move()
  if not account.quota then hand_over_pause() end
  local former = {}
  local name, ends = left()
  if name and ends > now then former[1] = name .. ' ' .. string.format('%.0f', ends) end
  for other, its_end in string.gmatch(account.former or '', '(%S+) (%d+)') do
    if tonumber(its_end) > now and other ~= KEY.QUOTA and other ~= name and #former < MOST_FORMER then
      former[#former + 1] = other .. ' ' .. its_end
    end
  end
  account.quota, account.former = KEY.QUOTA, table.concat(former, ' ')
  redis.call('HSET', KEY.META, 'quota', KEY.QUOTA, 'credential', KEY.CREDENTIAL, 'former', account.former)
  open_logs()
end
