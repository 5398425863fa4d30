-- TAKE: the one way a message leaves its queue (invariant I1).
-- Decides on lease recovery, due times, pause, health, every quota window, batch readiness and priority; then pops the messages of up to `count`
-- HTTP requests, registers each as a grant in flight with a lease, and so charges it to the quota, all in one step.
--
-- KEYS  see common.lua
-- ARGV  1 call id (grants are named <call id>.<k>)      2 count: most grants wanted
--       3 flags: 1 this call id may have run before, 2 an account at rest sends one request alone first
--       4 lease_ms  5 batch_max  6 max_bytes            7 linger_ms                       8 extra bytes the worker adds to each event
--       9 dedup_ms  10 outage_after (failures in a row) 11 crashed letter: JSON           12 most crashes of a message
--      13 number of windows, then for each: limit, length_ms (padded for clock drift)
--      14 + 2 x windows: run id of the server as the worker knows it, or ''
-- Returns { wait_ms, flags, news, grant, messages, numbers, owners, revoked, grant, ... }
--   news:     {}, or { reason, detail, until_ms or -1 } for the one call that is told that the account pauses; reason '' when it goes on
--   messages: the grant's own and then the siblings of a half of a refused batch, end to end, since a reply of many parts is slow to read
--   numbers:  'granted_us, 1 if a half, number of own messages, bytes of each message...', separated by spaces
--   owners:   {} if no message is a duplicate, else {id of the event that owns its idempotency key or '', ...}
--   revoked:  the numbers of its own messages that somebody has revoked
--   wait_ms 0: there may be more; > 0: nothing before then, whatever is enqueued; -1: empty; -2: nothing until some answer is in;
--   -10 - n: empty, and something that waits becomes due in n ms.
--   flags: 1 the account is in outage, 2 a batch is filling, so that new events may end the wait
-- O(grants x (windows + messages)), of which it looks at MOST_LOOKS; recovery, due messages and released ones in parts.

local call_id, count, replay, gently = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]) % 2 == 1, tonumber(ARGV[3]) >= 2
local lease, batch_max, max_bytes, linger, extra = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local dedup, outage_after, crashed_letter, max_crashes, windows =
  tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11], tonumber(ARGV[12]), tonumber(ARGV[13])

-- How many messages one call looks at behind the front when it fills a batch of one task or sorts out messages that are not due; most of a part.
local LOOK_AHEAD = 200
-- After so many messages one call forms no further grant.
local MOST_LOOKS = 1000
-- Messages that one call rewrites or moves: of dead workers, of a run of failures that is over, not due yet. Each takes up to 40 us.
local PART = 100
-- How long a tombstone holds, and how many one call clears away.
local REVOKED_MS = 400 * DAY_MS
-- An account with nothing on its way, whose last healthy answer is so many ms old, is at rest.
local AT_REST = 100
-- After another server took over (restart, failover) no lease ends for so many ms: its workers live and have answers to tell.
local GRACE = 5000

local m = redis.call('HMGET', META, 'seq', 'last', 'size', 'paused', 'healthy', 'fails', 'cursor', 'first_seen', 'run', 'grace', 'ok_at',
  'reason', 'detail', 'announced', 'release')
local seq, last, size = tonumber(m[1] or 0), tonumber(m[2] or 0), tonumber(m[3] or 0)
local paused, healthy, fails, cursor, first_seen = tonumber(m[4] or 0), m[5] == '1', tonumber(m[6] or 0), tonumber(m[7] or 0), tonumber(m[8] or 0)
local run, grace = ARGV[14 + 2 * windows] or '', tonumber(m[10] or 0)
local outage = fails >= outage_after and 1 or 0
local out = { 0, outage, {} }
local looks = 0
local revocations = redis.call('EXISTS', REVOKED) == 1

-- An outage was not these events' fault: they get back what its failures have cost them.
local function give_back(state)
  state.attempts, state.age = math.max(0, state.attempts - state.tries), 0
end

local function hand_out(id, grant)
  local texts, numbers, owners, revoked = {}, { string.format('%.0f', grant.at), grant.group, #grant.raws }, {}, {}
  for _, list in ipairs({ grant.raws, grant.sibling }) do
    for _, raw in ipairs(list) do
      texts[#texts + 1] = raw
      numbers[#numbers + 1] = #raw
    end
  end
  for _, owner in ipairs(grant.owners) do
    if owner ~= '' then owners = grant.owners end
  end
  for i, raw in ipairs(revocations and grant.raws or {}) do
    if redis.call('ZSCORE', REVOKED, plain_header(raw, 'id') or '') then revoked[#revoked + 1] = i end
  end
  out[#out + 1] = id
  out[#out + 1] = table.concat(texts)
  out[#out + 1] = table.concat(numbers, ' ')
  out[#out + 1] = owners
  out[#out + 1] = revoked
end

if replay then                                 -- the reply of this very call was lost: hand out again what it took
  for k = 1, count do
    local packed = redis.call('HGET', UNACKED, call_id .. '.' .. k)
    if packed then hand_out(call_id .. '.' .. k, cmsgpack.unpack(packed)) end
  end
  if #out > 3 then return out end
end

local wanted = 0
for i = 1, windows do wanted = math.max(wanted, tonumber(ARGV[12 + 2 * i])) end
size = grow(seq, size, wanted)

if run ~= '' and run ~= m[9] then
  if m[9] then
    grace = now + GRACE
    redis.call('HSET', META, 'grace', string.format('%.0f', grace))
  end
  redis.call('HSET', META, 'run', run)
end

-- One worker is told when the account pauses, for whatever reason, and one when it goes on. In place, TON AI waits between two tries of each event.
local reason = m[12] and m[12] ~= 'retrying' and m[12] or ''
if reason ~= (m[14] or '') then
  redis.call('HSET', META, 'announced', reason)
  out[3] = { reason, m[13] or '', string.format('%.0f', paused) }
end

-- Leases that ran out, the latest first, so that the oldest comes to stand in front: the worker died or was cut off. The request may have arrived, so it is charged, and its events may be duplicates.
local expired, recovered = {}, 0
if grace <= now then
  for _, id in ipairs(redis.call('ZREVRANGEBYSCORE', FLIGHT, now, '-inf', 'LIMIT', 0, LOOK_AHEAD)) do
    if recovered >= PART then break end
    seq, last = charge(seq, last, size)
    local packed = redis.call('HGET', UNACKED, id)
    local grant = packed and cmsgpack.unpack(packed) or { at = 0, raws = {}, owners = {}, sibling = {} }
    grant.id = id
    expired[#expired + 1] = grant
    recovered = recovered + #grant.raws + #grant.sibling
  end
  table.sort(expired, function(a, b) return a.at > b.at end)   -- the oldest last, so that it comes to stand in front
end
for _, grant in ipairs(expired) do
  local back = {}
  local lonely = false                         -- after the second crash its messages travel singly
  for i, raw in ipairs(grant.raws) do
    local state = state_of(raw)
    if state.first == 0 then state.first = grant.at + i - 1 end
    state.crashes = state.crashes + 1
    if grant.owners[i] == '' then state.duplicate = 1 end
    if raw == MISSING then                     -- no message
    elseif state.crashes >= max_crashes then
      bury(raw, state, crashed_letter)
      redis.call('HINCRBY', META, 'dead', 1)
      -- No task runs for it: a note for a worker to tell of it.
      redis.call('HSET', META, 'buried',
        (redis.call('HGET', META, 'buried') or '') .. (header_text(raw, 'id') or '') .. ' ' .. (header_text(raw, 'task') or '') .. '\n')
    else
      back[#back + 1] = with_state(raw, state)
      lonely = lonely or state.crashes >= 2
    end
  end
  local sibling = {}
  for _, raw in ipairs(grant.sibling) do
    if raw ~= MISSING then sibling[#sibling + 1] = raw end
  end
  if grant.group == 1 and #back > 0 and not lonely then   -- a half of a refused batch stays a half
    redis.call('RPUSH', GROUPS, cmsgpack.pack({ raws = back, sibling = sibling }))
  else
    for _, raw in ipairs(sibling) do back[#back + 1] = raw end
    for i = #back, 1, -1 do to_front(back[i]) end
  end
  -- Forgotten last: should anything above fail, it is done again rather than lost.
  redis.call('HDEL', UNACKED, grant.id)
  redis.call('ZREM', FLIGHT, grant.id)
end

if recovered >= PART then return out end

-- A run of failures is over: what was held aside goes again, in order of its first grant. After an outage, or when somebody resumed the account, at once;
-- otherwise when its own back-off is over.
local release = m[15]
if release then
  local part = redis.call('ZREVRANGE', HELD, 0, PART - 1)
  for _, raw in ipairs(part) do
    local state = state_of(raw)
    local due = release == 'run' and state.due or 0
    if release == 'outage' then give_back(state) end
    state.tries, state.due = 0, 0
    if due > now then add_to(DELAYED, due, with_state(raw, state)) else to_front(with_state(raw, state)) end
  end
  if #part > 0 then redis.call('ZREM', HELD, unpack(part)) end
  if #part == PART then return out end
  redis.call('HDEL', META, 'release')
end

-- Due messages go to the front, the soonest last. Of very many only a part at a time, and nothing is taken before all have moved: the order holds.
local due = redis.call('ZREVRANGEBYSCORE', DELAYED, now, '-inf', 'LIMIT', 0, LOOK_AHEAD)
for _, raw in ipairs(due) do to_front(raw) end
if #due > 0 then redis.call('ZREM', DELAYED, unpack(due)) end
if #due == LOOK_AHEAD then return out end

for _, key in ipairs(redis.call('ZRANGEBYSCORE', IDEM_ENDS, '-inf', now, 'LIMIT', 0, 20)) do
  redis.call('HDEL', IDEM, key)
  redis.call('ZREM', IDEM_ENDS, key)
end
for _, id in ipairs(revocations and redis.call('ZRANGEBYSCORE', REVOKED, '-inf', now - REVOKED_MS, 'LIMIT', 0, 20) or {}) do
  redis.call('ZREM', REVOKED, id)
end

if paused == -1 then out[1] = -2 return out end
if paused > now then out[1] = math.ceil(paused - now) return out end

-- "2026-11-22T01:02:03.5+00:00" in ms of the epoch, or nil; a time without a zone is UTC, as Celery sends it.
local function iso_ms(text)
  local y, mo, d, h, mi, s, rest = string.match(text, '^(%d%d%d%d)-(%d%d)-(%d%d)[T ](%d%d):(%d%d):(%d%d)(.*)$')
  if not y then return nil end
  y, mo, d, h, mi, s = tonumber(y), tonumber(mo), tonumber(d), tonumber(h), tonumber(mi), tonumber(s)
  if mo < 1 or mo > 12 or d < 1 or d > 31 or h > 23 or mi > 59 or s > 59 then return nil end
  local fraction, zone = string.match(rest, '^%.(%d%d?%d?)%d*(.*)$')
  if fraction then
    s, rest = s + tonumber('0.' .. fraction), zone
  end
  if mo <= 2 then y = y - 1 end
  local era = math.floor(y / 400)
  local yoe = y - era * 400
  local doy = math.floor((153 * (mo + (mo > 2 and -3 or 9)) + 2) / 5) + d - 1
  local days = era * 146097 + yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy - 719468
  local ms = (((days * 24 + h) * 60 + mi) * 60 + s) * 1000
  local sign, zh, zm = string.match(rest, '^([+-])(%d%d):?(%d?%d?)')
  if sign then ms = ms - (sign == '+' and 1 or -1) * (tonumber(zh) * 60 + (tonumber(zm) or 0)) * 60000
  elseif rest ~= '' and rest ~= 'Z' and rest ~= 'z' then return nil end
  return ms
end

local function not_due(raw)
  local text = header_text(raw, 'eta')
  local at = text and iso_ms(text)
  return at and at > now and at or nil
end

-- "\\u0" in base64, at each of its three places in a group of four letters.
local ESCAPES = { 'XHUw', '[FVl1]x1M', '[159BFJNRVZdhlptx]cdT[A-D]' }
-- Bytes of a body around the event: [[], {"account": "…", "event": …}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}].
local AROUND = 100

-- Bytes of an event in a request. Where the producer did not say, an estimate: the worker puts back what does not fit.
local function body_bytes(raw)
  local from = string.find(raw, '"postback_size"', 1, true)
  local given = from and tonumber(string.match(raw, '^"postback_size"%s*:%s*(%d+)', from))
  if given then return given + extra + 1 end
  local a, b = string.find(raw, '"body"%s*:%s*"')
  if not a then return #raw end
  local body = string.sub(raw, b + 1, (skip_string(raw, b) or #raw + 1) - 1)
  local length, escaped = #body, 0
  if string.find(raw, '"body_encoding"%s*:%s*"base64"') then
    for _, pattern in ipairs(ESCAPES) do escaped = escaped + select(2, string.gsub(body, pattern, '%0')) end
    length = length * 0.75 - 4 * escaped       -- six letters for two bytes of UTF-8
  else
    escaped = select(2, string.gsub(body, '\\\\u0%x%x%x', '%0'))
    length = length - 5 * escaped - select(2, string.gsub(body, '\\"', '%0'))
  end
  return math.max(1, length - AROUND) + extra + 1
end

local function task_of(raw)
  return plain_header(raw, 'task') or '?'
end

local function queued()
  local total = 0
  for i = 1, 4 do total = total + redis.call('LLEN', LISTS[i]) end
  return total
end

-- One message from the front, passing by those that are not due.
local function pop_one()
  for i = 1, 4 do
    for _ = 1, PART do
      local raw = redis.call('RPOP', LISTS[i])
      if not raw then break end
      looks = looks + 1
      local at = not_due(raw)
      if not at then return raw end
      add_to(DELAYED, at, raw)
    end
  end
end

-- A batch of one task: {messages}, or nil and the ms until it is ready. Looks past other tasks' messages, which keep their order.
-- While the oldest message lingers, a full batch of another task may go; once its time is over it goes, with what there is of its task.
local function pop_batch()
  local found, order, ready, overdue = {}, {}, nil, nil      -- found: task -> {items, bytes}
  local seen, oldest_wait = 0, nil
  for i = 1, 4 do
    local look = math.min(LOOK_AHEAD - seen, redis.call('LLEN', LISTS[i]))
    local step, from = batch_max, 0
    for _ = 1, LOOK_AHEAD do
      if look <= 0 or ready then break end
      local n = math.min(step, look)
      local slice = redis.call('LRANGE', LISTS[i], -(from + n), -(from + 1))
      for k = #slice, 1, -1 do
        local raw = slice[k]
        local at = not_due(raw)
        if at then
          redis.call('LREM', LISTS[i], -1, raw)
          add_to(DELAYED, at, raw)
          from = from - 1
        else
          local alone = string.find(raw, '"postback"', 1, true) and state_of(raw).crashes >= 2
          local task = task_of(raw)
          if #order == 0 and alone then        -- it killed two workers: no company for it
            redis.call('LREM', LISTS[i], -1, raw)
            return { raw }
          end
          if not oldest_wait then
            local from_at = string.find(raw, '"postback_at"', 1, true)
            local since = from_at and tonumber(string.match(raw, '^"postback_at"%s*:%s*(%d+)', from_at)) or now
            if first_seen == 0 then
              first_seen = now
              redis.call('HSET', META, 'first_seen', string.format('%.3f', now))
            end
            oldest_wait = math.min(since, first_seen) + linger - now
            if oldest_wait <= 0 then overdue = task end
          end
          if not alone and (not overdue or task == overdue) then
            local batch = found[task]
            if not batch then
              batch = { items = {}, bytes = 1 }
              found[task] = batch
              order[#order + 1] = task
            end
            local bytes = body_bytes(raw)
            if #batch.items > 0 and batch.bytes + bytes > max_bytes then
              ready = task
              break
            end
            batch.items[#batch.items + 1] = { raw, i, from + #slice - k + 1 }
            batch.bytes = batch.bytes + bytes
            if #batch.items >= batch_max then
              ready = task
              break
            end
          end
        end
      end
      seen, from, look, looks = seen + n, from + n, look - n, looks + n
      step = LOOK_AHEAD
    end
    if ready then break end
  end
  if #order == 0 then
    if first_seen ~= 0 then redis.call('HDEL', META, 'first_seen') end
    return nil
  end
  if not ready then
    if oldest_wait > 0 then return nil, oldest_wait end
    ready = order[1]
  end
  local raws, picked, together = {}, { {}, {}, {}, {} }, { true, true, true, true }
  for _, item in ipairs(found[ready].items) do
    raws[#raws + 1] = item[1]
    local of_list = picked[item[2]]
    of_list[#of_list + 1] = item[1]
    if item[3] ~= #of_list then together[item[2]] = false end   -- its place, counted from the front
  end
  for i = 1, 4 do
    local mine = picked[i]
    if #mine > 0 and together[i] then
      redis.call('LTRIM', LISTS[i], 0, -(#mine + 1))
    else
      for _, raw in ipairs(mine) do redis.call('LREM', LISTS[i], -1, raw) end
    end
  end
  if ready == order[1] then                    -- otherwise the oldest still waits, and goes on to
    redis.call('HDEL', META, 'first_seen')
    first_seen = 0
  end
  return raws
end

-- While failures are in a row, those that failed are held aside. They go again only when nothing else is there to ask with: in an outage in turn,
-- otherwise when their own back-off is over.
local function pop_held()
  if fails >= outage_after then
    local next_one = redis.call('ZRANGEBYSCORE', HELD, '(' .. string.format('%.0f', cursor), '+inf', 'LIMIT', 0, 1)
    if #next_one == 0 then next_one = redis.call('ZRANGE', HELD, 0, 0) end
    if #next_one == 0 then return nil end
    cursor = tonumber(redis.call('ZSCORE', HELD, next_one[1]))
    redis.call('HSET', META, 'cursor', string.format('%.0f', cursor))
    redis.call('ZREM', HELD, next_one[1])
    local state = state_of(next_one[1])
    give_back(state)
    state.tries = 0
    return { with_state(next_one[1], state) }
  end
  local soonest
  local raws, task, bytes = {}, nil, 1
  for _, raw in ipairs(redis.call('ZRANGE', HELD, 0, LOOK_AHEAD)) do
    looks = looks + 1
    local state = state_of(raw)
    if state.due > now then
      if not soonest or state.due < soonest then soonest = state.due end
    elseif #raws == 0 then
      raws[1] = raw
      if batch_max == 1 or state.crashes >= 2 then break end
      task, bytes = task_of(raw), bytes + body_bytes(raw)
    elseif #raws < batch_max and task == task_of(raw) and state.crashes < 2 then
      bytes = bytes + body_bytes(raw)
      if bytes > max_bytes then break end
      raws[#raws + 1] = raw
    end
  end
  if #raws == 0 then return nil, soonest and soonest - now end
  redis.call('ZREM', HELD, unpack(raws))
  return raws
end

local flying = redis.call('ZCARD', FLIGHT)

-- When nothing can be taken: the time of the next thing that becomes due by itself.
local function idle()
  local soonest
  for _, zset in ipairs({ DELAYED, FLIGHT }) do
    local first = redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2]
    if first and (not soonest or tonumber(first) < soonest) then soonest = tonumber(first) end
  end
  return soonest and -10 - math.max(1, math.ceil(soonest - now)) or -1
end

for k = 1, count do
  -- One request alone until a healthy answer: for a fresh account, after a failure, and for one at rest. A key that was revoked meanwhile is found
  -- out by one request.
  if not healthy and flying > 0 then out[1] = -2 return out end
  if looks >= MOST_LOOKS then return out end
  local wait = 0
  for i = 1, windows do
    local limit, length = tonumber(ARGV[12 + 2 * i]), tonumber(ARGV[13 + 2 * i])
    local need = limit - flying
    if need <= 0 then
      wait = math.max(wait, length)
    elseif seq >= need then
      local at = ((seq - need) % size) * 8
      wait = math.max(wait, struct.unpack('>d', redis.call('GETRANGE', RING, at, at + 7)) + length - now)
    end
  end
  if wait > 0 then
    out[1] = queued() + redis.call('LLEN', GROUPS) + redis.call('ZCARD', HELD) > 0 and math.ceil(wait) or idle()
    return out
  end

  local raws, sibling, pending = nil, {}, nil
  local group = redis.call('RPOP', GROUPS)
  if group then
    local unpacked = cmsgpack.unpack(group)
    raws, sibling = unpacked.raws, unpacked.sibling
  elseif batch_max == 1 then
    raws = { pop_one() }
    if #raws == 0 then raws = nil end
  else
    raws, pending = pop_batch()
    if pending then out[2] = outage + 2 end
  end
  if not raws and not pending and fails > 0 then
    raws, pending = pop_held()
    if pending then pending = -10 - math.max(1, math.ceil(pending)) end
  end
  if not raws then
    if pending then out[1] = pending < 0 and pending or math.max(1, math.ceil(pending))
    elseif queued() == 0 then out[1] = idle() end   -- else it has seen only messages that are not due: there may be others behind
    return out
  end

  local owners = {}
  for i, raw in ipairs(raws) do owners[i] = claim_key(raw, dedup) end
  local id = call_id .. '.' .. k
  if gently and flying == 0 and healthy and now - tonumber(m[11] or 0) > AT_REST then
    healthy = false
    redis.call('HSET', META, 'healthy', 0)
  end
  redis.call('ZADD', FLIGHT, now + lease - (count - k) / 1000, id)   -- in their order
  local grant = { at = now_us + k * 100, raws = raws, owners = owners, sibling = sibling, group = group and 1 or 0 }
  redis.call('HSET', UNACKED, id, cmsgpack.pack(grant))
  flying = flying + 1
  hand_out(id, grant)
end
return out
