-- KEYS: the one place in Lua that says their order. `workers/governor/server.py::script_keys` says it in
-- Python. A script that includes this file takes all of them: those of the provider, and then those
-- of one account after another.
--
-- One table, not a local for each: a function takes the longer to make, the more locals there are
-- around it. What is rare is included inside the function that needs it, for the same reason.

local KEY = {
  DEAD = KEYS[1],                              -- list: dead letters
  REVOKED = KEYS[2],                           -- zset: event id -> ms
  SCHEDULE = KEYS[3],                          -- zset: queue -> when it may be asked, ms
  TIMERS = KEYS[4],                            -- zset: queue -> when it is to be asked by itself, ms
  BURIED = KEYS[5],                            -- list: "queue id task" of messages that TAKE buried
  NOTICES = KEYS[6],                           -- list: dead letters that the hook has not heard of
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
  -- APART                                     true if the quota is not that of the credential alone
}
local OF_PROVIDER, OF_ACCOUNT = 6, 15

-- From now on the keys are those of the account with this number, from 1.
local function keys_of(number)
  local at = OF_PROVIDER + (number - 1) * OF_ACCOUNT
  KEY.QUEUE = KEYS[at + 1]
  for step = 1, 4 do KEY.LISTS[step] = KEYS[at + step] end
  KEY.DELAYED, KEY.HELD, KEY.GROUPS, KEY.META = KEYS[at + 5], KEYS[at + 6], KEYS[at + 7], KEYS[at + 8]
  KEY.RING, KEY.FLIGHT, KEY.UNACKED = KEYS[at + 9], KEYS[at + 10], KEYS[at + 11]
  KEY.IDEM, KEY.IDEM_ENDS = KEYS[at + 12], KEYS[at + 13]
  KEY.QUOTA, KEY.CREDENTIAL = KEYS[at + 14], KEYS[at + 15]
  KEY.APART = string.sub(KEY.QUOTA, #'postback.quota.') ~= string.sub(KEY.CREDENTIAL, #'postback.credential.')
end

-- A full Redis refuses a script whose first write could take memory, and lets it finish once it has
-- written (ADR 18). What frees memory must run just then.
redis.pcall('ZREM', KEY.SCHEDULE, '')
