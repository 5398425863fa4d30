-- KEYS: this file alone knows their order in Lua; `workers/governor/server.py::script_keys` does in
-- Python. A script that includes it takes all of them: those of the provider, then those of one
-- account after another.
--
-- They are one table, not a local each: the more locals around a function, the longer it takes to
-- make. For the same reason rare parts are included inside the function that needs them.

local KEY = {
  DEAD = KEYS[1],                              -- list: dead letters
  REVOKED = KEYS[2],                           -- zset: event id -> ms
  SCHEDULE = KEYS[3],                          -- zset: queue -> when it may be asked, ms
  TIMERS = KEYS[4],                            -- zset: queue -> when it becomes due by itself, ms
  BURIED = KEYS[5],                            -- list: "queue id task" of messages that TAKE buried
  NOTICES = KEYS[6],                           -- list: dead letters that the hook has not got
  JOURNAL = KEYS[7],                           -- stream: see journal.lua
  -- Of the account:
  -- QUEUE                                     its name
  LISTS = {},                                  -- by priority step 0, 3, 6, 9; right end first
  -- DELAYED                                   zset: message -> due ms
  -- HELD                                      zset: message -> first grant us
  -- GROUPS                                    list of cmsgpack: halves of refused batches
  -- META                                      hash: see account.lua
  -- RING                                      string: the first edition's quota log, see logs.lua
  -- FLIGHT                                    zset: grant -> lease end ms
  -- UNACKED                                   hash: grant -> cmsgpack: see flight.lua
  -- IDEM                                      hash: idempotency key -> "id end_ms tag"
  -- IDEM_ENDS                                 zset: idempotency key -> end ms
  -- QUOTA                                     hash: see logs.lua, line.lua
  -- CREDENTIAL                                hash: see credential.lua
  -- APART                                     true if quota and credential have different names
}
local OF_PROVIDER, OF_ACCOUNT = 7, 15

-- Switches to the keys of the account with this number, from 1.
local function keys_of(number)
  local at = OF_PROVIDER + (number - 1) * OF_ACCOUNT
  KEY.QUEUE = KEYS[at + 1]
  for step = 1, 4 do KEY.LISTS[step] = KEYS[at + step] end
  KEY.DELAYED, KEY.HELD, KEY.GROUPS, KEY.META = KEYS[at + 5], KEYS[at + 6], KEYS[at + 7], KEYS[at + 8]
  KEY.RING, KEY.FLIGHT, KEY.UNACKED = KEYS[at + 9], KEYS[at + 10], KEYS[at + 11]
  KEY.IDEM, KEY.IDEM_ENDS = KEYS[at + 12], KEYS[at + 13]
  KEY.QUOTA, KEY.CREDENTIAL = KEYS[at + 14], KEYS[at + 15]
  KEY.APART = string.sub(KEY.QUOTA, #'postback.quota.')
    ~= string.sub(KEY.CREDENTIAL, #'postback.credential.')
end

-- A full Redis refuses a script whose first write could take memory. It does not refuse one that
-- has already written (ADR 18). These scripts must run then, since they free memory.
redis.pcall('ZREM', KEY.SCHEDULE, '')
