-- The quota log (ADR 3): the times of the latest answers in a ring of `account.size` places. The next
-- one is written at `account.seq` modulo the size. Fields: seq, last, size.

-- @include account
-- @include clock

-- One answer more, now. The k-th latest is read at a fixed offset, so that times must never go back,
-- even if the clock does. O(1).
local function charge()
  if account.size <= 0 then return end
  local at = now
  if account.last > at then at = account.last end
  redis.call('SETRANGE', KEY.RING, (account.seq % account.size) * 8, struct.pack('>d', at))
  account.seq, account.last = account.seq + 1, at
  redis.call('HSET', KEY.META, 'seq', account.seq, 'last', string.format('%.3f', at))
end

-- Makes room for `wanted` answers. It only grows: old and new workers with different limits may run
-- side by side. What a smaller log has forgotten is taken to be as young as its oldest entry. O(size).
local function grow(wanted)
  local seq, size = account.seq, account.size
  if wanted <= size then return end
  local entries = math.min(seq, size)
  if entries > 0 then
    local ring, first = redis.call('GETRANGE', KEY.RING, 0, -1), ((seq - entries) % size) * 8
    local oldest_first = string.sub(string.sub(ring, first + 1) .. string.sub(ring, 1, first), 1, entries * 8)
    local missing = math.min(seq, wanted) - entries
    local times = string.rep(string.sub(oldest_first, 1, 8), missing) .. oldest_first
    local place = (seq - entries - missing) % wanted
    local before_end = (wanted - place) * 8
    redis.call('DEL', KEY.RING)
    redis.call('SETRANGE', KEY.RING, place * 8, string.sub(times, 1, before_end))
    if #times > before_end then redis.call('SETRANGE', KEY.RING, 0, string.sub(times, before_end + 1)) end
  end
  redis.call('HSET', KEY.META, 'size', wanted)
  account.size = wanted
end

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
