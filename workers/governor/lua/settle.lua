-- SETTLE: applies all consequences of one answer in one step (invariant I3).
-- It charges the quota log at the time of the answer, disposes of each message of the grant, updates
-- the account's health and pause, and writes the grant's record into the journal (ADR 41). It is idempotent by grant: a grant that is not in flight
-- was already settled, or its lease ended and its messages are queued again.
--
-- It does so for several grants one after another, each as if it were alone (ADR 32).
--
-- KEYS  see include/keys.lua
-- ARGV  see include/each.lua. A grant's argument, JSON:
--   grant, granted_us
--   health          ok, fail, quota (a 429), refused, unknown (charged, no verdict), none (nothing
--                   was sent: neither). Absent: a healthy answer that delivered every message.
--   detail          a few words for operators, when health is not ok
--   delivered       how many messages the provider has recorded
--   messages        the messages that have not ended, in any order: [{at, verb, ...}]. `at` counts
--                   the grant's own messages from 1, then the siblings of a half. Verbs:
--                     retry   after_ms: its back-off; duplicate: the attempt may have been
--                             recorded; few: the answer is worth few attempts. Counts an attempt
--                     poll    after_ms. Counts no attempt
--                     back    to the front; keeps_time: with the time of its first grant, else
--                             unchanged
--                     dead    letter: JSON text; duplicate; wrapped: the dead letter in its place
--   groups          [[[index, ...], [index of sibling, ...]], ...]: halves of a refused batch
--   retry_after_ms  wait that a 429 asked for; absent if it asked for none
--   random          0..1; absent with health
--   settings of its account; absent with health: backoff_ms, outage_after (failures in a row),
--   longest_pause_ms, in_place (a failed event is tried again before any other),
--   notices (a hook is called for dead letters), windows: [{length_ms}], the shortest first
-- Returns for each grant an error, or 1; 0 if the grant is stale. O(messages).

-- A grant's argument, the settings of its account, its record.
local answer, settings, record_text

local FIELDS = { 'fails', 'release', 'delivered', 'quota', 'former' }

-- @include account
-- @include each
-- @include flight
-- @include revocations
-- @include verdict

-- An event that has ended needs no tombstone. A later copy with its id is another event.
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
  -- If all events are delivered, their messages are not needed.
  local is_plain = not (answer.health or revocations)
  local in_flight = is_plain and redis.call('HDEL', KEY.UNACKED, answer.grant)
    or redis.call('ZSCORE', KEY.FLIGHT, answer.grant)
  if not in_flight or in_flight == 0 then return 0 end
  answer.health = answer.health or 'ok'
  read_account(FIELDS)
  open_logs()
  if answer.health ~= 'none' then
    for _, log in ipairs(logs) do charge(log) end
  end
  judge()
  dispose()
  if record_text ~= '' then record(record_text) end
  forget(answer.grant, is_plain)
  if waited_for or answer.messages or answer.groups or releasing then ask_again() end
  return 1
end

return each(function(argument, its_settings, its_record)
  answer, settings, record_text = cjson.decode(argument), its_settings, its_record
  return settle()
end)
