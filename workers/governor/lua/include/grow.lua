-- grow(log, wanted): makes room for `wanted` answers. A log never shrinks, since workers with
-- different limits may run side by side. Entries that a smaller log has dropped count as young as
-- its oldest entry. O(size).

-- @include logs

local function grow(log, wanted)
  local key = ring_of(log)
  local seq, size = log.seq, log.size
  local entries = math.min(seq, size)
  if entries > 0 then
    local ring, first = redis.call('GETRANGE', key, 0, -1), ((seq - entries) % size) * 8
    local oldest_first = string.sub(string.sub(ring, first + 1) .. string.sub(ring, 1, first), 1, entries * 8)
    local missing = math.min(seq, wanted) - entries
    local times = string.rep(string.sub(oldest_first, 1, 8), missing) .. oldest_first
    local place = (seq - entries - missing) % wanted
    local before_end = (wanted - place) * 8
    redis.call('DEL', key)
    redis.call('SETRANGE', key, place * 8, string.sub(times, 1, before_end))
    if #times > before_end then redis.call('SETRANGE', key, 0, string.sub(times, before_end + 1)) end
  end
  redis.call('HSET', log.hash, 'size', wanted)
  log.size = wanted
end
