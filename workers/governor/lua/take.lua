-- TAKE: the only way for a message to leave its queue (invariant I1).
-- It decides on lease recovery, due times, pause, health, every quota window, batch readiness and
-- priority. Then it pops the messages of up to `count` HTTP requests and registers each request as
-- a grant in flight with a lease, which charges it to the quota. All this is one step.
--
-- It does so for several accounts one after another, each as if it were alone (ADR 32).
--
-- KEYS  see include/keys.lua
-- ARGV  see include/each.lua. An account's argument: words
--   call        grants are named <call>.<number>
--   count       most grants
--   due         the word, if the call is to take nothing from a queue that is not due
--   repeated    the word, if the same call may have run before
--   its settings:
--   run         the worker's run id of the server, or ''
--   one_first   true if an account at rest first sends a single request (ADR 11)
--   lease_ms, batch_max, max_bytes, linger_ms, dedup_ms,
--   notices (a hook is called for dead letters), extra_bytes (that the worker adds to each event),
--   outage_after (failures in a row), max_crashes (of a message), crashed_letter (JSON text),
--   windows: [{limit, length_ms (padded for clock drift)}], limits: the same as text, "3:1001 ..."
-- Returns for each account an error, or { name, value, ... }:
--   state       why it took no more:
--               more      no reason, or this call has done enough work: ask again
--               empty     there is nothing to take
--               paused    the account pauses
--               blocked   the next request waits for an answer
--               spent     a quota window is full
--               filling   a batch is filling; new events may end the wait
--               closed    the queue is not due: another worker has just asked
--   wait_ms     paused, spent, filling: the wait. A pause without it ends when an operator resumes
--               the account.
--   due_ms      empty: until a waiting message is due; absent if none waits
--   outage      1 if the account is in outage; else absent
--   pause       see include/announce.lua; absent for all but one worker
--   grants      see include/hand_out.lua
-- O(grants x (windows + messages)), within include/bounds.lua for all accounts together. Messages
-- are put back in parts.

-- The account's argument and settings.
local request, settings = {}, nil
-- The queue's time in the schedule, if it was read.
local due_at
-- The pause to report.
local news

local FIELDS = { 'paused', 'fails', 'run', 'reason', 'announced', 'release', 'quota', 'credential', 'former' }

-- @include choose
-- @include each
-- @include hand_out
-- @include register
-- @include standing

-- A credential is at rest with no request on its way and no healthy answer for so many ms.
local AT_REST_MS = 100

-- The queue is not due: another worker has just asked, or its time has not come.
local function is_closed()
  local at = redis.call('ZSCORE', KEY.SCHEDULE, KEY.QUEUE)
  due_at = at and tonumber(at)
  return not due_at or due_at > now
end

local function plan_next(reply)
  -- @include plan
  plan(reply)
end

-- Whether the account still waits for a place in its quota. It also stays in the line while it
-- waits for an answer, if all in the line share its credential.
local function stays_in_line(state)
  return state == 'spent' or state == 'more' or (state == 'blocked' and not KEY.APART)
end

local function answer(reply)
  if not stays_in_line(reply[2]) then leave_line() end
  if reply[2] ~= 'more' then
    plan_next(reply)
  elseif not due_at or due_at < now - 1 then   -- behind all other due queues
    redis.call('ZADD', KEY.SCHEDULE, math.floor(now), KEY.QUEUE)
  end
  append(reply, 'grants', grants)
  if news then append(reply, 'pause', news) end
  if account.fails >= settings.outage_after then append(reply, 'outage', 1) end
  return reply
end

-- The id of the event that owns a message's idempotency key; '' if it is this one or none.
local function owner_of(raw)
  if not string.find(raw, '"postback_key"', 1, true) then return '' end
  -- @include idempotency
  return claim_key(raw, settings.dedup_ms)
end

local function is_at_rest()
  if credential.healthy ~= 1 or now - credential.ok_at <= AT_REST_MS then return false end
  return (KEY.APART and redis.call('ZCOUNT', KEY.CREDENTIAL .. '.flight', now, '+inf') or logs[1].flying) == 0
end

local function grant_to(chosen, k)
  local owners = {}
  for i, raw in ipairs(chosen.raws) do owners[i] = owner_of(raw) end
  chosen.owners, chosen.at = owners, now_us + k * 100
  -- If the key was revoked while the account was at rest, a single request finds that out.
  if settings.one_first and is_at_rest() then
    credential.healthy = 0
    redis.call('HDEL', KEY.CREDENTIAL, 'healthy')
  end
  local id = request.call .. '.' .. k
  register(id, now + settings.lease_ms - (request.count - k) / 1000, chosen)  -- leases end in order
  for _, log in ipairs(logs) do log.flying = log.flying + 1 end
  leave_line()
  hand_out(id, chosen)
end

-- The reply was lost: hands out the grants of this call again.
local function repeated()
  for k = 1, request.count do
    local id = request.call .. '.' .. k
    local packed = redis.call('HGET', KEY.UNACKED, id)
    if packed then hand_out(id, cmsgpack.unpack(packed)) end
  end
end

-- Makes room for the largest window in the quota's log, and notes the windows in it.
local function make_room()
  local quota, largest = logs[1], 0
  for _, window in ipairs(settings.windows) do largest = math.max(largest, window.limit) end
  if largest > quota.size then
    -- @include grow
    grow(quota, largest)
  end
  if quota.limits ~= settings.limits then redis.call('HSET', quota.hash, 'limits', settings.limits) end
end

-- Forgets the logs that it has left, once they no longer bind it.
local function forget_former()
  if #logs > 1 then return end
  redis.call('HDEL', KEY.META, 'former', 'seq', 'last', 'size')
  redis.call('DEL', KEY.RING)
end

-- Puts back the messages of dead workers, those held aside and those that are due; clears away
-- expired keys and tombstones. Returns true if it has done its part: there may be more.
local function put_in_order()
  if redis.call('ZCOUNT', KEY.FLIGHT, '-inf', now) > 0 then
    -- @include recover
    if recover() then return true end
  end
  if account.release then
    -- @include release
    if release() then return true end
  end
  if not revocations and redis.call('EXISTS', KEY.DELAYED, KEY.IDEM_ENDS) == 0 then return end
  -- @include sweep
  sweep()
  if redis.call('ZCOUNT', KEY.DELAYED, '-inf', now) > 0 then
    -- @include promote
    return promote()
  end
end

-- Handles a change of its quota, its credential, the server or its pause.
local function handle_changes()
  if account.quota ~= KEY.QUOTA or account.credential ~= KEY.CREDENTIAL then
    -- @include move
    move()
  elseif account.former then
    forget_former()
  end
  make_room()
  if settings.run ~= '' and settings.run ~= account.run then
    -- @include failover
    notice_failover(settings.run)
  end
  if account.reason or account.announced or credential.paused ~= 0 or logs[1].frozen ~= 0 then
    -- @include announce
    news = pause_news()
  end
end

local function hand_out_new()
  for k = 1, request.count do
    local refusal = refuse()
    if refusal then return refusal end
    local chosen, nothing = choose()
    if not chosen then return nothing end
    grant_to(chosen, k)
  end
  return { 'state', 'more' }
end

local function take()
  if request.due and is_closed() then return { 'state', 'closed', 'grants', {} } end
  if looks >= MOST_LOOKS and not request.repeated then return { 'state', 'more', 'grants', {} } end
  read_account(FIELDS)
  if request.repeated then
    repeated()
    if #grants > 0 then return answer({ 'state', 'more' }) end
  end
  open_logs()
  read_credential()
  read_line()
  handle_changes()
  if put_in_order() then return answer({ 'state', 'more' }) end
  for _, log in ipairs(logs) do log.flying = redis.call('ZCARD', flight_of(log)) end
  local reason, until_ms = standing()
  if until_ms == -1 then return answer({ 'state', 'paused' }) end
  if until_ms > now then return answer({ 'state', 'paused', 'wait_ms', math.ceil(until_ms - now) }) end
  return answer(hand_out_new())
end

return each(function(argument, its_settings)
  local call, count, mode = string.match(argument, '^(%S+) (%d+)(.*)$')
  request.call, request.count = call, tonumber(count)
  request.due, request.repeated = mode == ' due', mode == ' repeated'
  settings = its_settings
  due_at, news, grants, waiting = nil, nil, {}, 0
  return take()
end)
