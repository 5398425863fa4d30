-- KEYS: the one place in Lua that says their order. `workers/governor/scripts.py::account_keys` says it in
-- Python. A script that includes this file takes all of them.
--
-- One table, not a local for each: a function is made anew in each run of a script, and takes the
-- longer the more locals there are around it. For the same reason what is rare is included
-- inside the function that needs it.

local KEY = {
  LISTS = { KEYS[1], KEYS[2], KEYS[3], KEYS[4] },   -- by priority step 0, 3, 6, 9; right end first
  DELAYED = KEYS[5],                           -- zset: message -> due ms
  HELD = KEYS[6],                              -- zset: message -> first grant us
  GROUPS = KEYS[7],                            -- list of cmsgpack: halves of refused batches
  META = KEYS[8],                              -- hash: see account.lua
  RING = KEYS[9],                              -- string of 8-byte doubles: see quota_log.lua
  FLIGHT = KEYS[10],                           -- zset: grant -> lease end ms
  UNACKED = KEYS[11],                          -- hash: grant -> cmsgpack: see flight.lua
  IDEM = KEYS[12],                             -- hash: idempotency key -> "id end_ms tag"
  IDEM_ENDS = KEYS[13],                        -- zset: idempotency key -> end ms
  DEAD = KEYS[14],                             -- list: dead letters of the provider
  REVOKED = KEYS[15],                          -- zset: event id -> ms
  SCHEDULE = KEYS[16],                         -- zset: queue -> when it may be asked, ms
  TIMERS = KEYS[17],                           -- zset: queue -> when it is to be asked by itself, ms
  BURIED = KEYS[18],                           -- list: "queue id task" of messages that TAKE buried
  NOTICES = KEYS[19],                          -- list: dead letters that the hook has not heard of
}                                              --   (nil where no hook is)

-- A full Redis refuses a script whose first write could take memory, and lets it finish once it has
-- written (ADR 18). What frees memory must run just then.
redis.call('HDEL', KEY.META, '')
