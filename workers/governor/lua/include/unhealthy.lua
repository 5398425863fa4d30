-- VERDICTS[health](): what a failure, a 429 and a refused key mean. O(1). Fields: see verdict.lua.
-- Settings: outage_after, backoff_ms, longest_pause_ms, windows.

-- @include pause

local VERDICTS = {}
read_account({ 'level', 'quota_until' })

-- A 429's freeze is kept apart as well: another pause may cover it, and end before it.
local function freeze(until_ms)
  if until_ms > account.quota_until then
    account.quota_until = until_ms
    redis.call('HSET', KEY.META, 'quota_until', string.format('%.0f', until_ms))
  end
  pause(until_ms, 'quota')
end

local function unhealthy(...)
  redis.call('HSET', KEY.META, 'healthy', 0, 'fail_at', string.format('%.0f', now), 'fail_text', answer.detail or '', ...)
end

function VERDICTS.fail()
  account.fails = account.fails + 1
  unhealthy('fails', account.fails)
  if account.fails < settings.outage_after or (was_outage and asked_before) then return end
  local level = was_outage and account.level + 1 or 0
  redis.call('HSET', KEY.META, 'level', level, 'outage', 1)
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
  redis.call('HINCRBY', KEY.META, 'quota_answers', 1)
end

function VERDICTS.refused()
  unhealthy()
  pause(-1, 'credentials')
end
