-- SETTLE: applies everything that one answer means, in one step (invariant I3).
-- Charges the quota log at the time of the answer, disposes of each message of the grant, and updates the account's health and pause.
-- Idempotent by grant: a grant that is not in flight any more was already settled, or its lease ran out and its messages are queued again.
--
-- KEYS  see common.lua
-- ARGV  1 grant
--       2 '' (a healthy answer delivered every message) or JSON:
--         health        "ok" | "fail" | "quota" | "refused" | "unknown" (charged, no verdict) | "none" (nothing was sent: neither)
--         detail        a few words for operators, when health is not ok
--         delivered     how many messages the provider has recorded
--         messages      [[index from 1, verb, argument, duplicate 0|1, letter JSON text, text to bury instead], ...]; a message that is not named is done with.
--                       Siblings of a half follow after the grant's own messages. Verbs:
--                       "retry" (ms until its back-off ends; counts an attempt; a 1 in the letter's place: an answer that is worth few) | "poll" (ms; counts none) | "back" (to the front; 1: it keeps the time of its first grant, else as it was)
--                       "later" (due time, ms) | "dead" (letter) | "done"
--         groups        [[[index, ...], [index of sibling, ...]], ...]: halves of a refused batch, each to travel as one request
--       3 backoff_ms    4 outage_after (failures in a row)   5 in_place: 1 if a failed event is tried again before any other
--       6 longest pause_ms   7 random number 0..1            8 Retry-After in ms, or -1
--       9.. lengths of the windows in ms, the shortest first (for a 429 that does not say how long)
-- Returns { 1, paused_until_ms or 0, failures in a row, 1 if TAKE has events held aside to release }, or { 0 } if stale. O(messages).

local id, spec_text = ARGV[1], ARGV[2]
if not redis.call('ZSCORE', FLIGHT, id) then return { 0 } end
local packed = redis.call('HGET', UNACKED, id)
local grant = packed and cmsgpack.unpack(packed) or { at = now_us, raws = {}, owners = {}, sibling = {} }

local m = redis.call('HMGET', META, 'seq', 'last', 'size', 'paused', 'reason', 'since', 'fails', 'level', 'healthy', 'quota_until', 'release')
local seq, last, size = tonumber(m[1] or 0), tonumber(m[2] or 0), tonumber(m[3] or 0)
local paused, reason, since, fails, level = tonumber(m[4] or 0), m[5] or '', tonumber(m[6] or 0), tonumber(m[7] or 0), tonumber(m[8] or 0)
local quota_until = tonumber(m[10] or 0)
local backoff, outage_after, in_place, longest, random, retry_after =
  tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1', tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])

local spec = spec_text == '' and { health = 'ok', delivered = #grant.raws } or cjson.decode(spec_text)
local health = spec.health
if health ~= 'none' then charge(seq, last, size) end
if (spec.delivered or 0) > 0 then redis.call('HINCRBY', META, 'delivered', spec.delivered) end

-- A pause never shortens another one, and never lifts one that waits for an operator.
local function pause(until_ms, why)
  if paused == -1 or (until_ms ~= -1 and until_ms <= paused) then return end
  if paused <= now then
    since = now
    redis.call('HSET', META, 'since', string.format('%.0f', now))
  end
  paused, reason = until_ms, why
  redis.call('HSET', META, 'paused', string.format('%.0f', until_ms), 'reason', why, 'detail', spec.detail or '')
end

-- A 429's freeze is kept apart as well: another pause may cover it, and end before it.
local function freeze(until_ms)
  if until_ms > quota_until then
    quota_until = until_ms
    redis.call('HSET', META, 'quota_until', string.format('%.0f', until_ms))
  end
  pause(until_ms, 'quota')
end

-- Two events with the same place would share a turn, and one of them could take it for ever. Of very many with one place, which
-- only forged messages have, each comes to stand behind the others.
local function hold(raw, place)
  local taken = redis.call('ZCOUNT', HELD, place, place) > 0
  for step = 1, 100 do
    if not taken then break end
    place = place + (step < 100 and 1 or redis.call('ZCARD', HELD))
    taken = redis.call('ZCOUNT', HELD, place, place) > 0
  end
  add_to(HELD, place, raw)
end

local was_outage = fails >= outage_after
local releasing = m[11] ~= false
-- An answer to a request from before the pause proves nothing new. TAKE spreads the times of its grants over a few ms.
local asked_before = grant.at / 1000 - 10 <= since
local frozen_since = reason == 'quota' and asked_before
if health == 'ok' then
  if fails > 0 then                            -- the run of failures is over: TAKE releases those held aside
    if not releasing and redis.call('EXISTS', HELD) == 1 then
      releasing = true
      redis.call('HSET', META, 'release', was_outage and 'outage' or 'run')
    end
    if reason == 'outage' or reason == 'retrying' then
      paused = 0
      redis.call('HDEL', META, 'paused', 'reason', 'since', 'detail')
      if quota_until > now then pause(quota_until, 'quota') end
    end
    redis.call('HDEL', META, 'fails', 'cursor', 'outage')
  end
  if frozen_since then                         -- the gate stays as the 429 left it
    redis.call('HSET', META, 'ok_at', string.format('%.0f', now))
  else
    if m[9] ~= '1' then redis.call('HDEL', META, 'level') end
    if reason == 'quota' and paused ~= -1 and paused <= now then   -- the freeze has done its work: the next 429 begins with the shortest window again
      redis.call('HDEL', META, 'paused', 'reason', 'since', 'detail', 'quota_until')
    end
    redis.call('HSET', META, 'healthy', 1, 'ok_at', string.format('%.0f', now))
  end
  fails = 0
elseif health == 'fail' then
  fails = fails + 1
  redis.call('HSET', META, 'healthy', 0, 'fails', fails, 'fail_at', string.format('%.0f', now), 'fail_text', spec.detail or '')
  if fails >= outage_after and not (was_outage and asked_before) then
    level = was_outage and level + 1 or 0
    redis.call('HSET', META, 'level', level, 'outage', 1)
    pause(now + math.min(longest, 4 * backoff * 2 ^ math.min(level, 20)) * (0.9 + 0.2 * random), 'outage')
  end
elseif health == 'quota' then
  if retry_after >= 0 then
    level = 0
    freeze(now + retry_after)
  elseif reason ~= 'quota' or not asked_before then
    level = reason == 'quota' and level + 1 or 0
    local lengths = #ARGV - 8
    if lengths > 0 then freeze(now + tonumber(ARGV[8 + math.min(level + 1, lengths)]))
    else freeze(now + math.min(longest, 1000 * 2 ^ math.min(level, 20))) end
  end
  redis.call('HSET', META, 'healthy', 0, 'level', level, 'fail_at', string.format('%.0f', now), 'fail_text', spec.detail or '')
  redis.call('HINCRBY', META, 'quota_answers', 1)
elseif health == 'refused' then
  redis.call('HSET', META, 'healthy', 0, 'fail_at', string.format('%.0f', now), 'fail_text', spec.detail or '')
  pause(-1, 'credentials')
end

local all = {}
for _, raw in ipairs(grant.raws) do all[#all + 1] = raw ~= MISSING and raw end
for _, raw in ipairs(grant.sibling) do all[#all + 1] = raw ~= MISSING and raw end
-- The message with the time of its first grant, which is an event's own where its producer gave none: it must not move while the event waits.
local function timed(index)
  local raw = all[index]
  local state = raw and state_of(raw)
  if not raw or state.first ~= 0 then return raw or nil end
  state.first = grant.at + index - 1
  return with_state(raw, state)
end

local front, dead = {}, 0
for _, line in ipairs(spec.messages or {}) do
  local index, verb, arg = line[1], line[2], line[3]
  local raw = all[index]
  if raw and verb == 'back' then
    front[#front + 1] = { index, arg == 1 and timed(index) or raw }
  elseif raw and verb == 'later' then
    add_to(DELAYED, arg, raw)
  elseif raw and verb == 'dead' then
    local state = state_of(raw)
    if line[4] == 1 then state.duplicate = 1 end
    bury(line[6] or raw, state, line[5])
    dead = dead + 1
  elseif raw and verb ~= 'done' then           -- retry, poll
    local state = state_of(raw)
    if state.first == 0 then state.first = grant.at + index - 1 end
    if line[4] == 1 then state.duplicate = 1 end
    if verb == 'poll' then
      state.polls = state.polls + 1
      add_to(DELAYED, now + arg, with_state(raw, state))
    else
      local aside = fails > 0 and not releasing
      if not was_outage and (in_place or fails < outage_after) then
        state.attempts, state.age = state.attempts + 1, state.age + arg
        if line[5] == 1 then state.odd = state.odd + 1 end
        if aside and not in_place then state.tries = state.tries + 1 end
      end
      if in_place and fails < outage_after then
        front[#front + 1] = { index, with_state(raw, state) }
        pause(now + arg, 'retrying')
      elseif not aside then
        add_to(DELAYED, now + arg, with_state(raw, state))
      else
        state.due = math.floor(now + arg)
        hold(with_state(raw, state), state.first)
      end
    end
  end
end
table.sort(front, function(a, b) return a[1] > b[1] end)
for _, item in ipairs(front) do to_front(item[2]) end
if dead > 0 then redis.call('HINCRBY', META, 'dead', dead) end

local groups = spec.groups or {}
for i = #groups, 1, -1 do
  local raws, sibling = {}, {}
  for _, index in ipairs(groups[i][1]) do raws[#raws + 1] = timed(index) end
  for _, index in ipairs(groups[i][2]) do sibling[#sibling + 1] = timed(index) end
  if #raws == 0 then raws, sibling = sibling, {} end
  if #raws > 0 then redis.call('RPUSH', GROUPS, cmsgpack.pack({ raws = raws, sibling = sibling })) end
end
-- What has ended needs no tombstone: a copy that is sent under its id later is another event. (A dead letter's is gone already.)
if redis.call('EXISTS', REVOKED) == 1 then
  local goes_on = {}
  for _, line in ipairs(spec.messages or {}) do goes_on[line[1]] = line[2] ~= 'done' end
  for _, group in ipairs(groups) do
    for _, half in ipairs(group) do
      for _, index in ipairs(half) do goes_on[index] = true end
    end
  end
  for index, raw in ipairs(all) do
    if raw and not goes_on[index] then redis.call('ZREM', REVOKED, plain_header(raw, 'id') or '') end
  end
end
-- Forgotten last: should anything above fail, the lease brings its messages back.
redis.call('HDEL', UNACKED, id)
redis.call('ZREM', FLIGHT, id)
return { 1, paused > now and string.format('%.0f', paused) or (paused == -1 and '-1' or '0'), fails, releasing and 1 or 0 }
