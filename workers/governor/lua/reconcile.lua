-- RECONCILE: restores one grant of a worker in a Redis that may have forgotten its last second
-- (restart, failover). If the grant is in flight, its TAKE was not forgotten. Otherwise its
-- messages may be back where TAKE read them. They are then taken out once more and registered, so
-- that its SETTLE can be applied (again). If they are not there: a grant whose answer is in was
-- settled, and is charged and recorded once more to be safe. A request on its way is registered without
-- messages, so that it counts.
--
-- KEYS  see include/keys.lua
-- ARGV  1 JSON:
--   grant, granted_us
--   settled      true if it has its answer
--   half         true for a half of a refused batch
--   duplicates   for each of its own messages: whether it is a duplicate of another event
--   record       its record for the journal, or ''; journal: most records in the stream
--   account      lease_ms, dedup_ms, windows: [{limit}]
--       2.. its own messages, then the siblings
-- Returns { name, value, ... }: in_flight 1 if the grant is in flight now, else absent.
-- O(messages x place in the list, up to DEPTH).

local report = cjson.decode(ARGV[1])
local own = #report.duplicates

-- @include flight
-- @include front
-- @include grow
-- @include idempotency
-- @include journal
-- @include register
-- @include schedule

keys_of(1)

-- Messages at the front to search. Those taken lately are near the front. A search of a whole
-- backlog for a missing message would block Redis.
local DEPTH = 2000
-- Halves of refused batches to search.
local HALVES = 200

local function take_out(raw)
  local list = priority_list(raw)
  if redis.call('LPOS', list, raw, 'RANK', -1, 'MAXLEN', DEPTH) then
    return redis.call('LREM', list, -1, raw) > 0
  end
  return redis.call('ZREM', KEY.DELAYED, raw) + redis.call('ZREM', KEY.HELD, raw) > 0
end

-- Takes out the grant's half. Returns whether it was there.
local function take_out_half()
  if not report.half then return false end
  for _, packed in ipairs(redis.call('LRANGE', KEY.GROUPS, -HALVES, -1)) do
    local raws = cmsgpack.unpack(packed).raws
    local same = #raws == own
    for i = 1, own do same = same and raws[i] == ARGV[1 + i] end
    if same then
      redis.call('LREM', KEY.GROUPS, -1, packed)
      return true
    end
  end
  return false
end

if redis.call('ZSCORE', KEY.FLIGHT, report.grant) then return { 'in_flight', 1 } end

local grant = { at = report.granted_us, raws = {}, owners = {}, sibling = {}, group = report.half and 1 or 0 }
local whole, any_there = take_out_half(), false
for i = 1, #ARGV - 1 do
  local raw = ARGV[1 + i]
  if whole or take_out(raw) then any_there = true else raw = MISSING end
  if i <= own then
    grant.raws[i] = raw
    grant.owners[i] = report.duplicates[i] and '?' or claim_key(raw, report.account.dedup_ms)
  else
    grant.sibling[#grant.sibling + 1] = raw
  end
end

-- A ring that was forgotten whole cannot be charged: it is made again.
read_account({ 'quota', 'former' })
open_logs()
local largest = 0
for _, window in ipairs(report.account.windows) do largest = math.max(largest, window.limit) end
if largest > logs[1].size then grow(logs[1], largest) end
if not any_there and report.settled then
  for _, log in ipairs(logs) do charge(log) end
  if report.record ~= '' then
    record(report.record)
    if is_above(report.journal) then
      -- @include bound_journal
      pcall(bound_journal, report.journal)
    end
  end
  return {}
end
register(report.grant, now + report.account.lease_ms, grant)
something_waits()
return { 'in_flight', 1 }
