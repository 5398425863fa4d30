-- refuse(): why no further request may go now, as { 'state', ..., 'wait_ms' or 'due_ms', ... }; nil
-- if one may go. O(logs x windows). Settings: windows.

-- @include bounds
-- @include credential
-- @include line
-- @include logs

-- The windows that bind in a log: the account's own; in a log that it left, those of that time.
local function windows_of(log)
  if log == logs[1] or not log.limits then return settings.windows end
  local windows = {}
  for limit, length_ms in string.gmatch(log.limits, '(%d+):(%d+)') do
    windows[#windows + 1] = { limit = tonumber(limit), length_ms = tonumber(length_ms) }
  end
  return windows
end

-- Milliseconds until every window of a log has room beside so many requests; 0 if it has room now.
local function log_wait_ms(log, beside)
  local wait_ms = 0
  for _, window in ipairs(windows_of(log)) do
    local need = window.limit - beside
    if need <= 0 then
      wait_ms = math.max(wait_ms, window.length_ms)
    elseif log.seq >= need and log.size > 0 then
      local at = ((log.seq - math.min(need, log.size)) % log.size) * 8
      local answered = struct.unpack('>d', redis.call('GETRANGE', ring_of(log), at, at + 7))
      wait_ms = math.max(wait_ms, answered + window.length_ms - now)
    end
  end
  return wait_ms
end

-- Milliseconds until there is room for a request, with so many accounts in front of this one.
local function quota_wait_ms(before)
  local wait_ms = 0
  for _, log in ipairs(logs) do
    wait_ms = math.max(wait_ms, log_wait_ms(log, log.flying + before))
    before = 0                                 -- only the first log is the quota with this line
  end
  return wait_ms
end

-- A credential that is new, has failed or was at rest sends a single request until a healthy answer
-- (ADR 11). Returns when the lease of that request ends.
local function blocked_until()
  if credential.healthy == 1 then return nil end
  local flight = KEY.APART and KEY.CREDENTIAL .. '.flight' or flight_of(logs[1])
  local from = '(' .. string.format('%.3f', now)
  local first = redis.call('ZRANGEBYSCORE', flight, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return tonumber(first[2])
end

local function refuse()
  credential.blocked_until = blocked_until()
  if credential.blocked_until then
    redis.call('ZADD', KEY.CREDENTIAL .. '.blocked', 'NX', now_us, KEY.QUEUE)
    return { 'state', 'blocked' }
  end
  if looks >= MOST_LOOKS then return { 'state', 'more' } end
  local before = ahead()
  local wait_ms = quota_wait_ms(before)
  if wait_ms <= 0 then return nil end
  -- @include wait
  wait_ms = wait_again(before)
  if wait_ms <= 0 then return nil end
  -- @include empty
  if queued() + redis.call('LLEN', KEY.GROUPS) + redis.call('ZCARD', KEY.HELD) == 0 then return empty() end
  join_line()
  return { 'state', 'spent', 'wait_ms', math.ceil(wait_ms) }
end
