-- judge(): what an answer means for the account's health and pause. `unknown` and `none`
-- say nothing. O(1).
-- Fields: fails (in a row), outage, healthy, release, and those of pause.lua.
-- Settings: see unhealthy.lua.

-- @include account
-- @include clock

local was_outage
-- TAKE is to release what was held aside, or does so already.
local releasing
-- An answer to a request from before the pause proves nothing new. TAKE spreads the times of its
-- grants over a few ms.
local asked_before

local function judge_healthy()
  local still_frozen = account.reason == 'quota' and asked_before
  if account.fails > 0 then
    -- @include end_run
    end_run()
  end
  if still_frozen then                         -- the gate stays as the 429 left it
    redis.call('HSET', KEY.META, 'ok_at', string.format('%.0f', now))
    return
  end
  if account.healthy ~= 1 then redis.call('HDEL', KEY.META, 'level') end
  -- The freeze has done its work: the next 429 begins with the shortest window again.
  if account.reason == 'quota' and account.paused ~= -1 and account.paused <= now then
    redis.call('HDEL', KEY.META, 'paused', 'reason', 'since', 'detail', 'quota_until')
  end
  redis.call('HSET', KEY.META, 'healthy', 1, 'ok_at', string.format('%.0f', now))
end

local function judge_unhealthy()
  -- @include unhealthy
  local verdict = VERDICTS[answer.health]
  if verdict then verdict() end
end

local function judge()
  was_outage, releasing = account.outage == 1, account.release ~= false
  asked_before = answer.granted_us / 1000 - 10 <= account.since
  if answer.health == 'ok' then judge_healthy() else judge_unhealthy() end
end
