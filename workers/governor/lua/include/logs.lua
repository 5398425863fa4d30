-- The quota logs that bind an account (ADR 33): first the log of its quota, then logs that it has
-- left and that bind it for one more longest window. A log holds the times of the latest answers in
-- a ring of `size` places (ADR 3); the next time is written at `seq` modulo the size. Its requests
-- on their way are in `flight`, each with the end of its lease.
--
-- open_logs(): reads them. charge(log): adds one answer, now. O(logs).

-- @include account
-- @include clock

-- The name of an account's own log of the first edition.
local FIRST_EDITION = '-'
-- Seconds for which an unused log is kept.
local LOG_KEPT_S = 400 * 86400

-- Each log: hash; seq, last, size; limits: its windows as text; frozen: end of the freeze after a
-- 429, ms; line: whether accounts wait for it.
local logs = { {} }

local function read_log(log, name)
  log.hash = name == FIRST_EDITION and KEY.META or name
  local values = redis.call('HMGET', log.hash, 'seq', 'last', 'size', 'frozen', 'limits', 'line')
  log.seq, log.last = tonumber(values[1] or 0), tonumber(values[2] or 0)
  log.size = tonumber(values[3] or 0)
  log.frozen, log.limits, log.line = tonumber(values[4] or 0), values[5], values[6]
  return log
end

-- When the log's freeze began, ms, and how often it grew.
local function read_freeze(log)
  local values = redis.call('HMGET', log.hash, 'frozen_at', 'level')
  return tonumber(values[1] or 0), tonumber(values[2] or 0)
end

-- The keys of a log's times and of its requests on their way.
local function ring_of(log)
  return log.hash == KEY.META and KEY.RING or log.hash .. '.log'
end

local function flight_of(log)
  return log.hash == KEY.META and KEY.FLIGHT or log.hash .. '.flight'
end

-- Fields: quota, former.
local function open_logs()
  if #logs > 1 then logs = { logs[1] } end
  read_log(logs[1], KEY.QUOTA)
  if account.quota and account.quota ~= KEY.QUOTA then logs[2] = read_log({}, account.quota) end
  if not account.former then return end
  for name, ends in string.gmatch(account.former, '(%S+) (%d+)') do
    if tonumber(ends) > now and name ~= KEY.QUOTA and name ~= account.quota then
      logs[#logs + 1] = read_log({}, name)
    end
  end
end

-- Times must never go back, even if the clock does: the k-th latest is read at a fixed offset.
local function charge(log)
  if log.size <= 0 then return end
  local at = math.max(now, log.last)
  local ring = ring_of(log)
  redis.call('SETRANGE', ring, (log.seq % log.size) * 8, struct.pack('>d', at))
  if math.floor(at / DAY_MS) ~= math.floor(log.last / DAY_MS) and log.hash ~= KEY.META then
    redis.call('EXPIRE', ring, LOG_KEPT_S)
    redis.call('EXPIRE', log.hash, LOG_KEPT_S)
  end
  log.seq, log.last = log.seq + 1, at
  redis.call('HSET', log.hash, 'seq', log.seq, 'last', at)
end
