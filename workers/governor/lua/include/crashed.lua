-- put_back(grant): queues the messages of a grant again, flagged, since its worker died or was cut
-- off. After the second crash they travel singly; after the last they are dead letters.
-- Each request gets an `unknown` attempt in the journal. O(messages). Settings: crashed_letter,
-- max_crashes.

-- @include dead
-- @include flight
-- @include front
-- @include halves
-- @include journal

-- No worker has seen this message end: a note tells one to report it.
local function bury_crashed(raw, state)
  bury(raw, state, settings.crashed_letter)
  redis.call('HINCRBY', KEY.META, 'dead', 1)
  redis.call('RPUSH', KEY.BURIED, KEY.QUEUE .. ' ' .. (header_text(raw, 'id') or '') .. ' '
    .. (header_text(raw, 'task') or ''))
end

-- What the record says of one event. Headers are JSON text already.
local function event_text(place, raw, state, died)
  local words = {
    '{"place":', place, ',"id":"', plain_header(raw, 'id') or '', '","task":"', plain_header(raw, 'task') or '',
    '","duplicate":true,"first_at":', string.format('%.0f', math.floor(state.first / 1000)),
  }
  local key, at = key_of(raw), string.match(raw, '"postback_at"%s*:%s*(%d+)')
  if key then words[#words + 1] = ',"key_hash":"' .. key .. '"' end
  if at then words[#words + 1] = ',"enqueued_at":' .. at end
  words[#words + 1] = died and ',"end":"dead","reason":"crashed"}' or '}'
  return table.concat(words)
end

local function record_crash(grant, events)
  if #events == 0 or ARGV[2] == '0' then return end
  record('{"grant":"' .. grant.id .. '","at":' .. string.format('%.0f', math.floor(grant.at / 1000)) .. ',"queue":"'
    .. KEY.QUEUE .. '","outcome":"unknown","detail":"its worker died or was cut off","batch":' .. #events
    .. ',"events":[' .. table.concat(events, ',') .. ']}')
end

-- The grant's own messages that are sent again, and whether they travel singly: after two crashes.
local function survivors(grant)
  local back, singly, events = {}, false, {}
  for i, raw in ipairs(grant.raws) do
    if raw ~= MISSING then
      local state = state_of(raw)
      if state.first == 0 then state.first = grant.at + i - 1 end
      state.crashes = state.crashes + 1
      local died = state.crashes >= settings.max_crashes
      if grant.owners[i] == '' then
        state.duplicate = 1
        events[#events + 1] = event_text(i - 1, raw, state, died)
      end
      if died then
        bury_crashed(raw, state)
      else
        back[#back + 1] = with_state(raw, state)
        singly = singly or state.crashes >= 2
      end
    end
  end
  record_crash(grant, events)
  return back, singly
end

local function put_back(grant)
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
