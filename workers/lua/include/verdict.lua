-- VERDICTS[health](): what an answer means for the account's health and pause. `unknown` and `none`
-- mean nothing. O(1).
-- Fields: fails (in a row), level (of the pause), healthy, release, and those of pause.lua.
-- Settings: outage_after, backoff_ms, longest_pause_ms, windows.

-- @include pause

local was_outage = account.fails >= settings.outage_after
-- TAKE is to release what was held aside, or does so already.
local releasing = account.release ~= false
-- An answer to a request from before the pause proves nothing new. TAKE spreads the times of its
-- grants over a few ms.
local asked_before = grant.at / 1000 - 10 <= account.since

local function unhealthy(...)
  redis.call('HSET', META, 'healthy', 0, 'fail_at', string.format('%.0f', now), 'fail_text', answer.detail or '', ...)
end

-- The run of failures is over: TAKE releases those held aside.
local function end_run()
  if not releasing and redis.call('EXISTS', HELD) == 1 then
    releasing = true
    redis.call('HSET', META, 'release', was_outage and 'outage' or 'run')
  end
  if account.reason == 'outage' or account.reason == 'retrying' then
    account.paused = 0
    redis.call('HDEL', META, 'paused', 'reason', 'since', 'detail')
    if account.quota_until > now then pause(account.quota_until, 'quota') end
  end
  redis.call('HDEL', META, 'fails', 'cursor', 'outage')
  account.fails = 0
end

local VERDICTS = {}

function VERDICTS.ok()
  local still_frozen = account.reason == 'quota' and asked_before
  if account.fails > 0 then end_run() end
  if still_frozen then                         -- the gate stays as the 429 left it
    redis.call('HSET', META, 'ok_at', string.format('%.0f', now))
    return
  end
  if account.healthy ~= 1 then redis.call('HDEL', META, 'level') end
  -- The freeze has done its work: the next 429 begins with the shortest window again.
  if account.reason == 'quota' and account.paused ~= -1 and account.paused <= now then
    redis.call('HDEL', META, 'paused', 'reason', 'since', 'detail', 'quota_until')
  end
  redis.call('HSET', META, 'healthy', 1, 'ok_at', string.format('%.0f', now))
end

function VERDICTS.fail()
  account.fails = account.fails + 1
  unhealthy('fails', account.fails)
  if account.fails < settings.outage_after or (was_outage and asked_before) then return end
  local level = was_outage and account.level + 1 or 0
  redis.call('HSET', META, 'level', level, 'outage', 1)
  local longest_ms = math.min(settings.longest_pause_ms, 4 * settings.backoff_ms * 2 ^ math.min(level, 20))
  pause(now + longest_ms * (0.9 + 0.2 * answer.random), 'outage')
end

-- A 429. Where it does not say how long, each freeze takes the next longer window.
function VERDICTS.quota()
  local level, windows = account.level, settings.windows
  if answer.retry_after_ms then
    level = 0
    freeze(now + answer.retry_after_ms)
  elseif account.reason ~= 'quota' or not asked_before then
    level = account.reason == 'quota' and level + 1 or 0
    local window = windows[math.min(level + 1, #windows)]
    freeze(now + (window and window.length_ms or math.min(settings.longest_pause_ms, 1000 * 2 ^ math.min(level, 20))))
  end
  unhealthy('level', level)
  redis.call('HINCRBY', META, 'quota_answers', 1)
end

function VERDICTS.refused()
  unhealthy()
  pause(-1, 'credentials')
end
