-- recover(): puts back the messages of grants whose lease ran out: the worker died or was cut off. The
-- request may have arrived, so it is charged, and its events may be duplicates.
-- Returns true if it has done its part: there may be more. O(PART messages).
-- Fields: grace. Settings: crashed_letter, max_crashes.

-- @include bounds
-- @include dead
-- @include flight
-- @include halves
-- @include quota_log

-- Grants whose lease is over, the latest first, so that the oldest comes to stand in front.
local function expired_grants()
  local expired, messages = {}, 0
  if account.grace > now then return expired, messages end
  for _, id in ipairs(redis.call('ZREVRANGEBYSCORE', FLIGHT, now, '-inf', 'LIMIT', 0, LOOK_AHEAD)) do
    if messages >= PART then break end
    charge()
    local grant = grant_of(id)
    grant.id = id
    expired[#expired + 1] = grant
    messages = messages + #grant.raws + #grant.sibling
  end
  table.sort(expired, function(a, b) return a.at > b.at end)
  return expired, messages
end

-- No task runs for an event that killed its last worker: a note for a worker to tell of it.
local function bury_crashed(raw, state)
  bury(raw, state, settings.crashed_letter)
  redis.call('HINCRBY', META, 'dead', 1)
  redis.call('HSET', META, 'buried', (redis.call('HGET', META, 'buried') or '')
    .. (header_text(raw, 'id') or '') .. ' ' .. (header_text(raw, 'task') or '') .. '\n')
end

-- The grant's own messages that go on, and whether they are to travel singly: after a second crash.
local function survivors(grant)
  local back, singly = {}, false
  for i, raw in ipairs(grant.raws) do
    if raw ~= MISSING then
      local state = state_of(raw)
      if state.first == 0 then state.first = grant.at + i - 1 end
      state.crashes = state.crashes + 1
      if grant.owners[i] == '' then state.duplicate = 1 end
      if state.crashes >= settings.max_crashes then
        bury_crashed(raw, state)
      else
        back[#back + 1] = with_state(raw, state)
        singly = singly or state.crashes >= 2
      end
    end
  end
  return back, singly
end

local function recover()
  local expired, messages = expired_grants()
  for _, grant in ipairs(expired) do
    local back, singly = survivors(grant)
    local sibling = {}
    for _, raw in ipairs(grant.sibling) do
      if raw ~= MISSING then sibling[#sibling + 1] = raw end
    end
    if grant.group == 1 and #back > 0 and not singly then   -- a half of a batch stays a half
      push_half(back, sibling)
    else
      for _, raw in ipairs(sibling) do back[#back + 1] = raw end
      for i = #back, 1, -1 do to_front(back[i]) end
    end
    forget(grant.id)
  end
  return messages >= PART
end
