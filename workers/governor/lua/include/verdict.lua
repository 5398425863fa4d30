-- judge(): applies an answer to the health of its credential, to its quota and to its account.
-- `unknown` and `none` change nothing. O(1).
-- Fields: fails (in a row), delivered, release.
-- Settings: see unhealthy.lua.

-- @include account
-- @include clock
-- @include credential
-- @include logs

local was_outage
-- TAKE waited for this answer; or nothing was sent, and a place in the quota is free.
local waited_for
-- TAKE is to release held messages, or does so already.
local releasing

-- Whether the request was granted before that moment: then its answer proves nothing new. TAKE
-- spreads the times of its grants over a few ms.
local function granted_before(moment_ms)
  return answer.granted_us / 1000 - 10 <= moment_ms
end

local function judge_healthy()
  local quota, ok_at = logs[1], math.floor(now)
  if account.fails > 0 then
    read_account({ 'reason', 'outage' })
    was_outage = account.outage == 1
    -- @include end_run
    end_run()
  end
  local delivered = account.delivered + (answer.delivered or 0)
  redis.call('HSET', KEY.META, 'ok_at', ok_at, 'delivered', delivered)
  if quota.frozen ~= 0 then
    if granted_before((read_freeze(quota))) then   -- the credential stays as the 429 left it
      waited_for = true
      return
    end
    -- The freeze is over: the next 429 begins with the shortest window again.
    if quota.frozen <= now then
      redis.call('HDEL', quota.hash, 'frozen', 'frozen_at', 'level', 'detail')
    end
  end
  if redis.call('HSET', KEY.CREDENTIAL, 'healthy', 1, 'ok_at', ok_at) > 0 then waited_for = true end
  credential.healthy = 1
end

local function judge_unhealthy()
  read_account({ 'since', 'outage' })
  was_outage = account.outage == 1
  if (answer.delivered or 0) > 0 then
    redis.call('HINCRBY', KEY.META, 'delivered', answer.delivered)
  end
  -- @include unhealthy
  local verdict = VERDICTS[answer.health]
  if verdict then verdict() end
  read_credential()
  waited_for = answer.health == 'none' or credential.healthy ~= 1
end

local function judge()
  was_outage, releasing, waited_for = false, account.release ~= false, false
  if answer.health == 'ok' then judge_healthy() else judge_unhealthy() end
end
