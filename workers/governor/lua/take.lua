-- TAKE: the one way a message leaves its queue (invariant I1).
-- Decides on lease recovery, due times, pause, health, every quota window, batch readiness and
-- priority; then pops the messages of up to `count` HTTP requests, registers each as a grant in
-- flight with a lease, and so charges it to the quota, all in one step.
--
-- It does so for several accounts, one after another, each as if it were alone (ADR 32).
--
-- KEYS  see include/keys.lua
-- ARGV  see include/each.lua. An account's argument: words
--   call        grants are named <call>.<number>
--   count       most grants wanted
--   due         if the queue is to be asked only if the schedule says so
--   repeated    if this very call may have run before
--   its settings:
--   run         run id of the server as the worker knows it, or ''
--   one_first   true if an account at rest sends one request alone first (ADR 11)
--   lease_ms, batch_max, max_bytes, linger_ms, dedup_ms,
--   notices (a hook hears of dead letters), extra_bytes (that the worker adds to each event),
--   outage_after (failures in a row), max_crashes (of a message), crashed_letter (JSON text),
--   windows: [{limit, length_ms (padded for clock drift)}], limits: the same as text, "3:1001 ..."
-- Returns for each account an error, or { name, value, ... }:
--   state       why it took no more:
--               more      nothing stands against it, or this call has done enough: ask again
--               empty     nothing is there to take
--               paused    the account pauses
--               blocked   nothing until some answer is in
--               spent     a quota window is full
--               filling   a batch is filling; new events may end the wait
--               closed    the schedule says otherwise: another worker has just asked
--   wait_ms     paused, spent, filling: the wait. A pause without it ends when somebody resumes it.
--   due_ms      empty: until something that waits becomes due; absent if nothing does
--   outage      1 if the account is in outage; else absent
--   pause       see include/announce.lua; absent for all but one worker
--   grants      see include/hand_out.lua
-- O(grants x (windows + messages)), within include/bounds.lua for all accounts together; what it puts
-- back, in parts.

-- What this account's call asks for.
local wish, settings = {}, nil
-- The queue's time in the schedule, if that was looked at.
local due_at
-- The pause that is to be told of.
local news

local FIELDS = { 'paused', 'fails', 'run', 'reason', 'announced', 'release', 'quota', 'credential', 'former' }

-- @include choose
-- @include each
-- @include hand_out
-- @include register
-- @include standing

-- A credential with nothing on its way, whose last healthy answer is so many ms old, is at rest.
local AT_REST_MS = 100

-- Another worker has just asked it, or it cannot be asked yet.
local function is_closed()
  local at = redis.call('ZSCORE', KEY.SCHEDULE, KEY.QUEUE)
  due_at = at and tonumber(at)
  return not due_at or due_at > now
end

local function plan_next(reply)
  -- @include plan
  plan(reply)
end

-- Whether the account goes on to wait for a place in its quota. For an answer of its own credential
-- all in the line wait.
local function stays_in_line(state)
  return state == 'spent' or state == 'more' or (state == 'blocked' and not KEY.APART)
end

local function answer(reply)
  if not stays_in_line(reply[2]) then leave_line() end
  if reply[2] ~= 'more' then
    plan_next(reply)
  elseif not due_at or due_at < now - 1 then   -- to the end of those that are due, if it is not there
    redis.call('ZADD', KEY.SCHEDULE, math.floor(now), KEY.QUEUE)
  end
  append(reply, 'grants', grants)
  if news then append(reply, 'pause', news) end
  if account.fails >= settings.outage_after then append(reply, 'outage', 1) end
  return reply
end

-- The id of the event that owns a message's idempotency key; '' if there is none, or it is its own.
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
  -- A key that was revoked while the account was at rest is found out by one request.
  if settings.one_first and is_at_rest() then
    credential.healthy = 0
    redis.call('HDEL', KEY.CREDENTIAL, 'healthy')
  end
  local id = wish.call .. '.' .. k
  register(id, now + settings.lease_ms - (wish.count - k) / 1000, chosen)   -- leases end in their order
  for _, log in ipairs(logs) do log.flying = log.flying + 1 end
  leave_line()
  hand_out(id, chosen)
end

-- The reply was lost: hands out again what this call took.
local function repeated()
  for k = 1, wish.count do
    local id = wish.call .. '.' .. k
    local packed = redis.call('HGET', KEY.UNACKED, id)
    if packed then hand_out(id, cmsgpack.unpack(packed)) end
  end
end

-- Its quota's log has room for the largest window, and says by which it is asked.
local function make_room()
  local quota, largest = logs[1], 0
  for _, window in ipairs(settings.windows) do largest = math.max(largest, window.limit) end
  if largest > quota.size then
    -- @include grow
    grow(quota, largest)
  end
  if quota.limits ~= settings.limits then redis.call('HSET', quota.hash, 'limits', settings.limits) end
end

-- The logs that it has left bind it no more.
local function forget_former()
  if #logs > 1 then return end
  redis.call('HDEL', KEY.META, 'former', 'seq', 'last', 'size')
  redis.call('DEL', KEY.RING)
end

-- Puts into the lists what dead workers have left, what was held aside, and what is due; clears away
-- what is forgotten. True if it has done its part: there may be more.
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

-- What is new: its quota or credential, the server, its pause.
local function hear_of_changes()
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
  for k = 1, wish.count do
    local refusal = refuse()
    if refusal then return refusal end
    local chosen, nothing = choose()
    if not chosen then return nothing end
    grant_to(chosen, k)
  end
  return { 'state', 'more' }
end

local function take()
  if wish.due and is_closed() then return { 'state', 'closed', 'grants', {} } end
  if looks >= MOST_LOOKS and not wish.repeated then return { 'state', 'more', 'grants', {} } end
  read_account(FIELDS)
  if wish.repeated then
    repeated()
    if #grants > 0 then return answer({ 'state', 'more' }) end
  end
  open_logs()
  read_credential()
  read_line()
  hear_of_changes()
  if put_in_order() then return answer({ 'state', 'more' }) end
  for _, log in ipairs(logs) do log.flying = redis.call('ZCARD', flight_of(log)) end
  local reason, until_ms = standing()
  if until_ms == -1 then return answer({ 'state', 'paused' }) end
  if until_ms > now then return answer({ 'state', 'paused', 'wait_ms', math.ceil(until_ms - now) }) end
  return answer(hand_out_new())
end

return each(function(argument, its_settings)
  local call, count, how = string.match(argument, '^(%S+) (%d+)(.*)$')
  wish.call, wish.count, wish.due, wish.repeated = call, tonumber(count), how == ' due', how == ' repeated'
  settings = its_settings
  due_at, news, grants, waiting = nil, nil, {}, 0
  return take()
end)
