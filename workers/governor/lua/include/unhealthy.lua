-- VERDICTS[health](): the effects of a failure, a 429 and a refused key. O(1).
-- Fields: see verdict.lua. Settings: outage_after, backoff_ms, longest_pause_ms, windows.

-- @include pause

local VERDICTS = {}

local function unhealthy(...)
  redis.call('HDEL', KEY.CREDENTIAL, 'healthy')
  local at = string.format('%.0f', now)
  redis.call('HSET', KEY.META, 'fail_at', at, 'fail_text', answer.detail or '', ...)
end

function VERDICTS.fail()
  account.fails = account.fails + 1
  unhealthy('fails', account.fails)
  if account.fails < settings.outage_after or (was_outage and granted_before(account.since)) then return end
  read_account({ 'level' })
  local level = was_outage and account.level + 1 or 0
  redis.call('HSET', KEY.META, 'level', level, 'outage', 1)
  local longest_ms = math.min(settings.longest_pause_ms, 4 * settings.backoff_ms * 2 ^ math.min(level, 20))
  pause(now + longest_ms * (0.9 + 0.2 * answer.random), 'outage')
end

-- Freezes a quota. A freeze never shortens another one.
local function freeze(quota, frozen_at, until_ms, level)
  if quota.frozen <= now then frozen_at = now end
  redis.call('HSET', quota.hash, 'frozen', math.floor(math.max(quota.frozen, until_ms)), 'frozen_at',
    math.floor(frozen_at), 'level', level, 'detail', answer.detail or '')
end

-- A 429. If it asks for no time, each freeze takes the next longer window.
function VERDICTS.quota()
  local quota, windows = logs[1], settings.windows
  local frozen_at, frozen_level = read_freeze(quota)
  if answer.retry_after_ms then
    freeze(quota, frozen_at, now + answer.retry_after_ms, 0)
  elseif quota.frozen == 0 or not granted_before(frozen_at) then
    local level = quota.frozen ~= 0 and frozen_level + 1 or 0
    local window = windows[math.min(level + 1, #windows)]
    local longest_ms = math.min(settings.longest_pause_ms, 1000 * 2 ^ math.min(level, 20))
    freeze(quota, frozen_at, now + (window and window.length_ms or longest_ms), level)
  end
  unhealthy()
  redis.call('HINCRBY', KEY.META, 'quota_answers', 1)
end

function VERDICTS.refused()
  unhealthy()
  local since = string.format('%.0f', now)
  redis.call('HSET', KEY.CREDENTIAL, 'paused', -1, 'since', since, 'detail', answer.detail or '')
end
