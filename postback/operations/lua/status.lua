-- STATUS: everything about one account at one moment. It only reads.
--
-- KEYS  1-4 lists of the queue by priority step 0, 3, 6, 9; the right end is the front
--       5 delayed (zset)   6 held (zset)   7 groups (list of cmsgpack)   8 meta (hash)
--       9 ring (string)   10 flight (zset)   11 unacked (hash)
-- meta names the keys of its quota and of its credential (ADR 33).
-- Returns { now_us, queued, delayed, held, events in groups, requests in flight, events in flight,
--           oldest_ms or 0, last_due_ms or 0, {meta field, value, ...},
--           {credential field, value, ...},
--           { {quota field, value, ...}, times of its log, requests in flight,
--             and these three again for each former log that still binds } }
--   oldest_ms: when the longest waiting event at the front of a list was enqueued (postback_at).
--   events in groups, in flight: exact for up to SAMPLE batches, an estimate for more.
-- O(SAMPLE + size of the log).

local SAMPLE = 200
local clock = redis.call('TIME')

local function events_in(packed_list, batches)
  local events = 0
  for _, packed in ipairs(packed_list) do
    local unpacked = cmsgpack.unpack(packed)
    events = events + #unpacked.raws + #(unpacked.sibling or {})
  end
  return #packed_list > 0 and math.floor(events * batches / #packed_list + 0.5) or 0
end

local queued, oldest = 0, 0
for i = 1, 4 do
  queued = queued + redis.call('LLEN', KEYS[i])
  local raw = redis.call('LINDEX', KEYS[i], -1)
  local at = raw and tonumber(string.match(raw, '"postback_at"%s*:%s*(%d+)') or nil)
  if at and (oldest == 0 or at < oldest) then oldest = at end
end

local grouped = events_in(redis.call('LRANGE', KEYS[7], 0, SAMPLE - 1), redis.call('LLEN', KEYS[7]))

local grants, batches, cursor = {}, redis.call('HLEN', KEYS[11]), '0'
for _ = 1, SAMPLE do
  local reply = redis.call('HSCAN', KEYS[11], cursor, 'COUNT', SAMPLE)
  for i = 2, #reply[2], 2 do grants[#grants + 1] = reply[2][i] end
  cursor = reply[1]
  if cursor == '0' or #grants >= SAMPLE then break end
end
local flying = events_in(grants, batches)

local last = redis.call('ZRANGE', KEYS[5], -1, -1, 'WITHSCORES')[2]

local meta, named = redis.call('HGETALL', KEYS[8]), {}
for at = 1, #meta, 2 do named[meta[at]] = meta[at + 1] end

local logs = {}
local function add(name)
  -- An account of the first edition has its own log.
  local first = name == '-'
  logs[#logs + 1] = redis.call('HGETALL', first and KEYS[8] or name)
  logs[#logs + 1] = redis.call('GET', first and KEYS[9] or name .. '.log') or ''
  logs[#logs + 1] = redis.call('ZCARD', first and KEYS[10] or name .. '.flight')
end
add(named.quota or '-')
for name, ends in string.gmatch(named.former or '', '(%S+) (%d+)') do
  if tonumber(ends) > clock[1] * 1000 then add(name) end
end

return {
  string.format('%.0f', clock[1] * 1000000 + clock[2]), queued, redis.call('ZCARD', KEYS[5]), redis.call('ZCARD', KEYS[6]), grouped,
  redis.call('ZCARD', KEYS[10]), flying, string.format('%.0f', oldest), last and string.format('%.0f', tonumber(last)) or '0',
  meta, named.credential and redis.call('HGETALL', named.credential) or {}, logs,
}
