-- apply(): moves each message of the grant as the argument says, and the halves of a refused batch.
-- forget_ended(): clears away after events that have ended. O(messages). Settings: in_place,
-- outage_after.

-- @include dead
-- @include front
-- @include halves
-- @include pause
-- @include revocations
-- @include sorted
-- @include state
-- @include verdict

-- The grant's own messages, then the siblings; false for one that is missing.
local all = {}
for _, raws in ipairs({ grant.raws, grant.sibling }) do
  for _, raw in ipairs(raws) do all[#all + 1] = raw ~= MISSING and raw end
end
local front = {}

local function state_at(index)
  local state = state_of(all[index])
  if state.first == 0 then state.first = grant.at + index - 1 end
  return state
end

-- The message with the time of its first grant. An event without a time of its producer has this
-- time, which must not move while the event waits.
local function timed(index)
  local raw = all[index]
  if not raw or state_of(raw).first ~= 0 then return raw or nil end
  return with_state(raw, state_at(index))
end

-- Holds a message aside. Two messages with one place would share a turn, and one of them could take
-- it for ever. So each gets its own place. Only forged messages have the same place very often.
local function hold(raw, place)
  local taken = redis.call('ZCOUNT', KEY.HELD, place, place) > 0
  for step = 1, 100 do
    if not taken then break end
    place = place + (step < 100 and 1 or redis.call('ZCARD', KEY.HELD))
    taken = redis.call('ZCOUNT', KEY.HELD, place, place) > 0
  end
  add_to(KEY.HELD, place, raw)
end

local VERBS = {}

function VERBS.back(line)
  front[#front + 1] = { at = line.at, raw = line.keeps_time and timed(line.at) or all[line.at] }
end

function VERBS.dead(line)
  local state = state_of(all[line.at])
  if line.duplicate then state.duplicate = 1 end
  bury(line.wrapped or all[line.at], state, line.letter)
  redis.call('HINCRBY', KEY.META, 'dead', 1)
end

function VERBS.poll(line)
  local state = state_at(line.at)
  state.polls = state.polls + 1
  add_to(KEY.DELAYED, now + line.after_ms, with_state(all[line.at], state))
end

function VERBS.retry(line)
  local state = state_at(line.at)
  if line.duplicate then state.duplicate = 1 end
  local aside = account.fails > 0 and not releasing
  local in_place = settings.in_place
  if not was_outage and (in_place or account.fails < settings.outage_after) then
    state.attempts, state.age = state.attempts + 1, state.age + line.after_ms
    if line.few then state.odd = state.odd + 1 end
    if aside and not in_place then state.tries = state.tries + 1 end
  end
  if in_place and account.fails < settings.outage_after then
    front[#front + 1] = { at = line.at, raw = with_state(all[line.at], state) }
    pause(now + line.after_ms, 'retrying')
  elseif not aside then
    add_to(KEY.DELAYED, now + line.after_ms, with_state(all[line.at], state))
  else
    state.due = math.floor(now + line.after_ms)
    hold(with_state(all[line.at], state), state.first)
  end
end

local function timed_all(indices)
  local raws = {}
  for _, index in ipairs(indices) do raws[#raws + 1] = timed(index) end
  return raws
end

local function apply()
  for _, line in ipairs(answer.messages or {}) do
    if all[line.at] then VERBS[line.verb](line) end
  end
  table.sort(front, function(a, b) return a.at > b.at end)
  for _, item in ipairs(front) do to_front(item.raw) end
  local groups = answer.groups or {}
  for i = #groups, 1, -1 do
    local raws, sibling = timed_all(groups[i][1]), timed_all(groups[i][2])
    if #raws == 0 then raws, sibling = sibling, {} end
    if #raws > 0 then push_half(raws, sibling) end
  end
end

-- Removes the tombstones of events that have ended. A dead letter's is already gone.
local function forget_ended()
  if not revocations then return end
  local goes_on = {}
  for _, line in ipairs(answer.messages or {}) do goes_on[line.at] = true end
  for _, group in ipairs(answer.groups or {}) do
    for _, half in ipairs(group) do
      for _, index in ipairs(half) do goes_on[index] = true end
    end
  end
  for index, raw in ipairs(all) do
    if raw and not goes_on[index] then
      redis.call('ZREM', KEY.REVOKED, plain_header(raw, 'id') or '')
    end
  end
end
