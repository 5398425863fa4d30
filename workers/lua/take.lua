-- TAKE: the one way a message leaves its queue (invariant I1).
-- Decides on lease recovery, due times, pause, health, every quota window, batch readiness and priority; then pops the messages of up to `count`
-- HTTP requests, registers each as a grant in flight with a lease, and so charges it to the quota, all in one step.
--
-- KEYS  see common.lua
-- ARGV  1 call id (grants are named <call id>.<k>)      2 count: most grants wanted       3 replay: 1 if this call id may have run before
--       4 lease_ms  5 batch_max  6 max_bytes            7 linger_ms                       8 extra bytes the worker adds to each event
--       9 dedup_ms  10 outage_after (failures in a row) 11 crashed letter: JSON           12 most crashes of a message
--      13 number of windows, then for each: limit, length_ms (padded for clock drift)
-- Returns { wait_ms, outage, grant, {message, ...}, {owner id of its idempotency key or '', ...}, {granted_us, 1 if a half of a refused batch, its sibling messages...},
--           grant, ... }
--   wait_ms 0: there may be more; > 0: nothing before then, whatever is enqueued; -1: empty; -2: nothing until some answer is in;
--   -10 - n: empty, and something that waits becomes due in n ms.
-- O(grants x (windows + messages)); recovery O(expired leases).

local call_id, count, replay = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local lease, batch_max, max_bytes, linger, extra = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local dedup, outage_after, crashed_letter, max_crashes, windows =
  tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11], tonumber(ARGV[12]), tonumber(ARGV[13])

-- How many messages one call looks at behind the front when it fills a batch of one task or sorts out messages that are not due.
local LOOK_AHEAD = 200

local m = redis.call('HMGET', META, 'seq', 'last', 'size', 'paused', 'healthy', 'fails', 'cursor', 'first_seen')
local seq, last, size = tonumber(m[1] or 0), tonumber(m[2] or 0), tonumber(m[3] or 0)
local paused, healthy, fails, cursor, first_seen = tonumber(m[4] or 0), m[5] == '1', tonumber(m[6] or 0), tonumber(m[7] or 0), tonumber(m[8] or 0)
local out = { 0, 0 }

if replay then                                 -- the reply of this very call was lost: hand out again what it took
  for k = 1, count do
    local packed = redis.call('HGET', UNACKED, call_id .. '.' .. k)
    if packed then
      local grant = cmsgpack.unpack(packed)
      out[#out + 1] = call_id .. '.' .. k
      out[#out + 1] = grant.raws
      out[#out + 1] = grant.owners
      out[#out + 1] = { string.format('%.0f', grant.at), grant.group or 0, unpack(grant.sibling) }
    end
  end
  if #out > 2 then return out end
end

-- The ring only grows: old and new workers with different limits may run side by side. What an older, smaller log has forgotten is taken to be as
-- young as the oldest entry that it still knows.
local wanted = 0
for i = 1, windows do wanted = math.max(wanted, tonumber(ARGV[12 + 2 * i])) end
if wanted > size then
  local known = math.min(seq, size)
  local times = {}
  for k = known, 1, -1 do                      -- the oldest first
    local at = ((seq - k) % size) * 8
    times[#times + 1] = redis.call('GETRANGE', RING, at, at + 7)
  end
  local missing = known > 0 and math.min(seq, wanted) - known or 0
  redis.call('DEL', RING)
  for k = known + missing, 1, -1 do
    local stamp = k > known and times[1] or times[known - k + 1]
    redis.call('SETRANGE', RING, ((seq - k) % wanted) * 8, stamp)
  end
  size = wanted
  redis.call('HSET', META, 'size', size)
end

-- Leases that ran out: the worker died or was cut off. The request may have arrived, so it is charged, and its events may be duplicates.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', FLIGHT, '-inf', now, 'LIMIT', 0, 50)) do
  redis.call('ZREM', FLIGHT, id)
  seq, last = charge(seq, last, size)
  local packed = redis.call('HGET', UNACKED, id)
  if packed then
    redis.call('HDEL', UNACKED, id)
    local grant = cmsgpack.unpack(packed)
    local back = {}
    for i, raw in ipairs(grant.raws) do
      local state = state_of(raw)
      if state.first == 0 then state.first = grant.at + i - 1 end
      state.crashes = state.crashes + 1
      if grant.owners[i] == '' then state.duplicate = 1 end
      if state.crashes >= max_crashes then
        bury(raw, state, crashed_letter)
        redis.call('HINCRBY', META, 'dead', 1)
      else
        back[#back + 1] = with_state(raw, state)
      end
    end
    local lonely = false                       -- after the second crash its messages travel singly
    for _, raw in ipairs(back) do lonely = lonely or state_of(raw).crashes >= 2 end
    if grant.group == 1 and #back > 0 and not lonely then   -- a half of a refused batch stays a half
      redis.call('RPUSH', GROUPS, cmsgpack.pack({ raws = back, sibling = grant.sibling }))
    else
      for _, raw in ipairs(grant.sibling) do back[#back + 1] = raw end
      for i = #back, 1, -1 do to_front(back[i]) end
    end
  end
end

local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', now, 'LIMIT', 0, LOOK_AHEAD)
for i = #due, 1, -1 do to_front(due[i]) end
if #due > 0 then redis.call('ZREM', DELAYED, unpack(due)) end

for _, key in ipairs(redis.call('ZRANGEBYSCORE', IDEM_ENDS, '-inf', now, 'LIMIT', 0, 20)) do
  redis.call('HDEL', IDEM, key)
  redis.call('ZREM', IDEM_ENDS, key)
end

if paused == -1 then out[1] = -2 return out end
if paused > now then out[1] = math.ceil(paused - now) return out end

-- "2026-11-22T01:02:03.5+00:00" in ms of the epoch, or nil; a time without a zone is UTC, as Celery sends it.
local function iso_ms(text)
  local y, mo, d, h, mi, s, rest = string.match(text, '^(%d%d%d%d)-(%d%d)-(%d%d)[T ](%d%d):(%d%d):([%d%.]+)(.*)$')
  if not y then return nil end
  y, mo, d = tonumber(y), tonumber(mo), tonumber(d)
  if mo <= 2 then y = y - 1 end
  local era = math.floor(y / 400)
  local yoe = y - era * 400
  local doy = math.floor((153 * (mo + (mo > 2 and -3 or 9)) + 2) / 5) + d - 1
  local days = era * 146097 + yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy - 719468
  local ms = (((days * 24 + tonumber(h)) * 60 + tonumber(mi)) * 60 + tonumber(s)) * 1000
  local sign, zh, zm = string.match(rest, '^([+-])(%d%d):?(%d%d)')
  if sign then ms = ms - (sign == '+' and 1 or -1) * (tonumber(zh) * 60 + tonumber(zm)) * 60000 end
  return ms
end

local function not_due(raw)
  local from = string.find(raw, '"eta"', 1, true)
  local text = from and string.match(raw, '^"eta"%s*:%s*"([^"]*)"', from)
  local at = text and iso_ms(text)
  return at and at > now and at or nil
end

-- The id of the event that owns this one's idempotency key, if that is another event; else claims the key.
local function owner_of(raw)
  local key = header_text(raw, 'postback_key')
  if not key then return '' end
  local id = header_text(raw, 'id') or ''
  local owner = redis.call('HGET', IDEM, key)
  if owner then
    local first, ends = string.match(owner, '^(%S+) (%S+)')
    if first == id then return '' end
    if tonumber(ends) > now then return first end
  end
  redis.call('HSET', IDEM, key, id .. ' ' .. string.format('%.0f', now + dedup))
  redis.call('ZADD', IDEM_ENDS, now + dedup, key)
  return ''
end

local function body_bytes(raw)                 -- an upper bound where the producer did not say
  local from = string.find(raw, '"postback_size"', 1, true)
  local given = from and tonumber(string.match(raw, '^"postback_size"%s*:%s*(%d+)', from))
  if given then return given + extra + 1 end
  local a, b = string.find(raw, '"body"%s*:%s*"')
  if not a then return #raw end
  local stop = skip_string(raw, b)
  local length = (stop or #raw) - b
  if string.find(raw, '"body_encoding"%s*:%s*"base64"') then length = length * 0.75 end
  return length + extra + 1
end

local function task_of(raw)
  local from = string.find(raw, '"task"', 1, true)
  return from and string.match(raw, '^"task"%s*:%s*"([^"\\]*)"', from) or '?'
end

local function queued()
  local total = 0
  for i = 1, 4 do total = total + redis.call('LLEN', LISTS[i]) end
  return total
end

-- One message from the front, passing by those that are not due.
local function pop_one()
  for i = 1, 4 do
    for _ = 1, LOOK_AHEAD do
      local raw = redis.call('RPOP', LISTS[i])
      if not raw then break end
      local at = not_due(raw)
      if not at then return raw end
      redis.call('ZADD', DELAYED, at, raw)
    end
  end
end

-- A batch of one task: {messages}, or nil and the ms until it is ready. Looks past other tasks' messages, which keep their order.
local function pop_batch()
  local found, order, ready = {}, {}, nil      -- task -> {items, bytes}
  local seen, oldest_wait = 0, nil
  for i = 1, 4 do
    local look = math.min(LOOK_AHEAD - seen, redis.call('LLEN', LISTS[i]))
    local step, from = batch_max, 0
    while look > 0 and not ready do
      local n = math.min(step, look)
      local slice = redis.call('LRANGE', LISTS[i], -(from + n), -(from + 1))
      for k = #slice, 1, -1 do
        local raw = slice[k]
        local at = not_due(raw)
        if at then
          redis.call('LREM', LISTS[i], -1, raw)
          redis.call('ZADD', DELAYED, at, raw)
          from = from - 1
        else
          local alone = string.find(raw, '"postback"', 1, true) and state_of(raw).crashes >= 2
          local task = task_of(raw)
          if #order == 0 and alone then        -- it killed two workers: no company for it
            redis.call('LREM', LISTS[i], -1, raw)
            return { raw }
          end
          if not alone then
            local batch = found[task]
            if not batch then
              batch = { items = {}, bytes = 1, closed = false }
              found[task] = batch
              order[#order + 1] = task
            end
            if not batch.closed then
              local bytes = body_bytes(raw)
              if #batch.items > 0 and batch.bytes + bytes > max_bytes then
                batch.closed = true
              else
                batch.items[#batch.items + 1] = { raw, i, from + #slice - k + 1 }
                batch.bytes = batch.bytes + bytes
                if #batch.items >= batch_max then batch.closed = true end
              end
              if batch.closed then ready = task break end
            end
          end
          if not oldest_wait then
            local from_at = string.find(raw, '"postback_at"', 1, true)
            local since = from_at and tonumber(string.match(raw, '^"postback_at"%s*:%s*(%d+)', from_at)) or now
            if first_seen == 0 then
              first_seen = now
              redis.call('HSET', META, 'first_seen', string.format('%.3f', now))
            end
            oldest_wait = math.min(since, first_seen) + linger - now
          end
        end
      end
      seen, from, look = seen + n, from + n, look - n
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
  redis.call('HDEL', META, 'first_seen')
  first_seen = 0
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
    return next_one
  end
  local soonest
  local raws, task = {}, nil
  for _, raw in ipairs(redis.call('ZRANGE', HELD, 0, LOOK_AHEAD)) do
    local at = state_of(raw).due
    if at <= now then
      if #raws < batch_max and (not task or task == task_of(raw)) and (#raws == 0 or batch_max > 1) then
        task = task_of(raw)
        raws[#raws + 1] = raw
      end
    elseif not soonest or at < soonest then
      soonest = at
    end
  end
  if #raws == 0 then return nil, soonest and soonest - now end
  redis.call('ZREM', HELD, unpack(raws))
  return raws
end

local flying = redis.call('ZCARD', FLIGHT)
local outage = fails >= outage_after and 1 or 0
out[2] = outage

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
  if not healthy and flying > 0 then out[1] = -2 return out end
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
  end
  if not raws and not pending and fails > 0 then raws, pending = pop_held() end
  if not raws then
    out[1] = pending and math.max(1, math.ceil(pending)) or idle()
    return out
  end

  local owners = {}
  for i, raw in ipairs(raws) do owners[i] = owner_of(raw) end
  local id = call_id .. '.' .. k
  redis.call('ZADD', FLIGHT, now + lease, id)
  redis.call('HSET', UNACKED, id, cmsgpack.pack({ at = now_us + k * 100, raws = raws, owners = owners, sibling = sibling,
    group = group and 1 or 0 }))
  flying = flying + 1
  out[#out + 1] = id
  out[#out + 1] = raws
  out[#out + 1] = owners
  out[#out + 1] = { string.format('%.0f', now_us + k * 100), group and 1 or 0, unpack(sibling) }
end
return out
