-- KEYS: the one place in Lua that says their order. `workers/scripts.py::account_keys` says it in
-- Python. A script that includes this file takes all of them. NOTICES is nil where no hook hears of
-- dead letters.

local LISTS = { KEYS[1], KEYS[2], KEYS[3], KEYS[4] }   -- by priority step 0, 3, 6, 9; right end first
local DELAYED = KEYS[5]                        -- zset: message -> due ms
local HELD = KEYS[6]                           -- zset: message -> first grant us
local GROUPS = KEYS[7]                         -- list of cmsgpack: halves of refused batches
local META = KEYS[8]                           -- hash: see account.lua
local RING = KEYS[9]                           -- string of 8-byte doubles: see quota_log.lua
local FLIGHT = KEYS[10]                        -- zset: grant -> lease end ms
local UNACKED = KEYS[11]                       -- hash: grant -> cmsgpack
local IDEM = KEYS[12]                          -- hash: idempotency key -> "id end_ms tag"
local IDEM_ENDS = KEYS[13]                     -- zset: idempotency key -> end ms
local DEAD = KEYS[14]                          -- list: dead letters of the provider
local REVOKED = KEYS[15]                       -- zset: event id -> ms
local NOTICES = KEYS[16]                       -- list: dead letters that the hook has not heard of

-- A full Redis refuses a script whose first write could take memory, and lets it finish once it has
-- written (ADR 18). What frees memory must run just then.
redis.call('HDEL', META, '')
