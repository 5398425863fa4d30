-- take_held(): takes messages that failed and are held aside during a run of failures (ADR 6). They
-- go again only if no other message can: in an outage in turn, otherwise after their own back-off.
-- Returns messages of one task; or nil and the ms until one is due; or nil. O(LOOK_AHEAD messages).
-- Fields: fails. Settings: outage_after, batch_max, max_bytes.

-- @include account
-- @include bounds
-- @include clock
-- @include size
-- @include state

local function pop_in_turn()
  read_account({ 'cursor' })
  local after = '(' .. string.format('%.0f', account.cursor)
  local raw = redis.call('ZRANGEBYSCORE', KEY.HELD, after, '+inf', 'LIMIT', 0, 1)[1]
    or redis.call('ZRANGE', KEY.HELD, 0, 0)[1]
  if not raw then return nil end
  account.cursor = tonumber(redis.call('ZSCORE', KEY.HELD, raw))
  redis.call('HSET', KEY.META, 'cursor', string.format('%.0f', account.cursor))
  redis.call('ZREM', KEY.HELD, raw)
  local state = state_of(raw)
  give_back(state)
  state.tries = 0
  return { with_state(raw, state) }
end

local function take_held()
  if account.fails >= settings.outage_after then return pop_in_turn() end
  local soonest
  local raws, task, bytes = {}, nil, 1
  for _, raw in ipairs(redis.call('ZRANGE', KEY.HELD, 0, LOOK_AHEAD)) do
    looks = looks + 1
    local state = state_of(raw)
    if state.due > now then
      if not soonest or state.due < soonest then soonest = state.due end
    elseif #raws == 0 then
      raws[1] = raw
      if settings.batch_max == 1 or state.crashes >= 2 then break end
      task, bytes = task_of(raw), bytes + body_bytes(raw)
    elseif #raws < settings.batch_max and task == task_of(raw) and state.crashes < 2 then
      bytes = bytes + body_bytes(raw)
      if bytes > settings.max_bytes then break end
      raws[#raws + 1] = raw
    end
  end
  if #raws == 0 then return nil, soonest and soonest - now end
  redis.call('ZREM', KEY.HELD, unpack(raws))
  return raws
end
