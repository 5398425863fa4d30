-- release(): a run of failures is over, so what was held aside goes again, in order of its first
-- grant. After an outage, or when somebody resumed the account, at once; otherwise when its own
-- back-off is over. Returns true if it has done its part: there may be more. O(PART messages).
-- Fields: release ('run', 'outage' or 'resume').

-- @include account
-- @include bounds
-- @include front
-- @include sorted

local function release()
  -- @include state
  local part = redis.call('ZREVRANGE', KEY.HELD, 0, PART - 1)
  for _, raw in ipairs(part) do
    local state = state_of(raw)
    local due = account.release == 'run' and state.due or 0
    if account.release == 'outage' then give_back(state) end
    state.tries, state.due = 0, 0
    if due > now then add_to(KEY.DELAYED, due, with_state(raw, state)) else to_front(with_state(raw, state)) end
  end
  if #part > 0 then redis.call('ZREM', KEY.HELD, unpack(part)) end
  looks = looks + REWRITTEN * #part
  if #part == PART then return true end
  redis.call('HDEL', KEY.META, 'release')
  return false
end
