-- refuse(): why no further request may go now, as { 'state', ..., 'wait_ms' or 'due_ms', ... }; nil
-- if one may. O(windows). Fields: healthy, and those of the quota log. Settings: windows.

-- @include account
-- @include bounds
-- @include clock

-- Requests on their way.
local flying = 0

-- Milliseconds until every window has room beside `flying` requests; 0 if it has now. O(windows).
local function quota_wait_ms(windows, flying)
  local wait_ms = 0
  for _, window in ipairs(windows) do
    local need = window.limit - flying
    if need <= 0 then
      wait_ms = math.max(wait_ms, window.length_ms)
    elseif account.seq >= need then
      local at = ((account.seq - need) % account.size) * 8
      local answered = struct.unpack('>d', redis.call('GETRANGE', KEY.RING, at, at + 7))
      wait_ms = math.max(wait_ms, answered + window.length_ms - now)
    end
  end
  return wait_ms
end

-- One request alone until a healthy answer: for a fresh account, after a failure, and for one at
-- rest (ADR 11).
local function refuse()
  if account.healthy ~= 1 and flying > 0 then return { 'state', 'blocked' } end
  if looks >= MOST_LOOKS then return { 'state', 'more' } end
  local wait_ms = quota_wait_ms(settings.windows, flying)
  if wait_ms <= 0 then return nil end
  -- @include empty
  if queued() + redis.call('LLEN', KEY.GROUPS) + redis.call('ZCARD', KEY.HELD) == 0 then return empty() end
  return { 'state', 'spent', 'wait_ms', math.ceil(wait_ms) }
end
