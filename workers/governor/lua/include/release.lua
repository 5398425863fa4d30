-- release(): queues the messages that were held aside, since the run of failures is over. They go
-- in the order of their first grants: at once after an outage or an operator's resume, otherwise
-- after their own back-off. Returns true if it has done its part: there may be more. O(PART
-- messages).
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
    local message = with_state(raw, state)
    if due > now then add_to(KEY.DELAYED, due, message) else to_front(message) end
  end
  if #part > 0 then redis.call('ZREM', KEY.HELD, unpack(part)) end
  looks = looks + REWRITTEN * #part
  if #part == PART then return true end
  redis.call('HDEL', KEY.META, 'release')
  return false
end
