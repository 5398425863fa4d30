-- Bounds of one run (ADR 22), for all its accounts together, and its counters.

-- Most messages to search behind the front, to fill a batch or to sort out those not due.
local LOOK_AHEAD = 200
-- After so many looks at messages the run forms no further grant and begins no further account.
local MOST_LOOKS = 1000
-- Most messages to rewrite or move, each 40 us, on a slow machine 100: of dead workers, of a run of
-- failures that is over, not due yet.
local PART = 64
-- Most keys and tombstones to clear away.
local SWEPT = 20
-- Looks that a moved message costs, and a rewritten one.
local MOVED, REWRITTEN = 5, 10
-- Messages looked at so far.
local looks = 0
-- Tails added to equal messages so far.
local tails = 0
