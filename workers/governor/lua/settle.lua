-- SETTLE: applies everything that one answer means, in one step (invariant I3).
-- Charges the quota log at the time of the answer, disposes of each message of the grant, and
-- updates the account's health and pause. Idempotent by grant: one that is not in flight any more
-- was already settled, or its lease ran out and its messages are queued again.
--
-- It does so for several grants, one after another, each as if it were alone (ADR 32).
--
-- KEYS  see include/keys.lua
-- ARGV  see include/each.lua. A grant's argument, JSON:
--   grant, granted_us
--   health          ok, fail, quota (a 429), refused, unknown (charged, no verdict), none (nothing
--                   was sent: neither). Absent: a healthy answer that delivered every message.
--   detail          a few words for operators, when health is not ok
--   delivered       how many messages the provider has recorded
--   messages        what becomes of those that are not done with, in any order:
--                   [{at, verb, ...}]; `at` counts from 1, siblings of a half follow after the
--                   grant's own. Verbs:
--                     retry   after_ms: its back-off; duplicate: the attempt may have been recorded;
--                             few: the answer is worth few attempts. Counts an attempt
--                     poll    after_ms. Counts no attempt
--                     back    to the front; keeps_time: with the time of its first grant, else as it
--                             was
--                     dead    letter: JSON text; duplicate; wrapped: to be buried in its place
--   groups          [[[index, ...], [index of sibling, ...]], ...]: halves of a refused batch
--   retry_after_ms  that a 429 asked for; absent if it did not
--   random          0..1; absent with health
--   settings of its account; absent with health: backoff_ms, outage_after (failures in a row),
--   longest_pause_ms, in_place (a failed event is tried again before any other),
--   notices (a hook hears of dead letters), windows: [{length_ms}], the shortest first
-- Returns for each grant an error, or 1; 0 if the grant is stale. O(messages).

-- What the provider has answered to this grant's request.
local answer, settings

local FIELDS = { 'fails', 'release', 'delivered', 'quota', 'former' }

-- @include account
-- @include each
-- @include flight
-- @include revocations
-- @include verdict

-- What has ended needs no tombstone: a copy that is sent under its id later is another event.
local function dispose()
  if not (answer.messages or answer.groups or revocations) then return end
  local grant = grant_of(answer.grant)
  -- @include dispose
  apply()
  forget_ended()
end

local function ask_again()
  -- @include wake
  if not waited_for then return something_waits() end
  reopen(wake_others())
end

local function settle()
  -- Of events that are all delivered nothing is needed any more.
  local is_plain = not (answer.health or revocations)
  local known = is_plain and redis.call('HDEL', KEY.UNACKED, answer.grant) or redis.call('ZSCORE', KEY.FLIGHT, answer.grant)
  if not known or known == 0 then return 0 end
  answer.health = answer.health or 'ok'
  read_account(FIELDS)
  open_logs()
  if answer.health ~= 'none' then
    for _, log in ipairs(logs) do charge(log) end
  end
  judge()
  dispose()
  forget(answer.grant, is_plain)
  if waited_for or answer.messages or answer.groups or releasing then ask_again() end
  return 1
end

return each(function(argument, its_settings)
  answer, settings = cjson.decode(argument), its_settings
  return settle()
end)
