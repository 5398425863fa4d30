-- Bounds of one run (ADR 22), for all its accounts together, and what it has counted.

-- Messages that it looks at behind the front, to fill a batch or to sort out what is not due.
local LOOK_AHEAD = 200
-- After so many looks at messages it forms no further grant, and begins with no further account.
local MOST_LOOKS = 1000
-- Messages that it rewrites or moves, each up to 40 us: of dead workers, of a run of failures that
-- is over, not due yet.
local PART = 100
-- Keys and tombstones that it clears away.
local SWEPT = 20
-- How many looks a message costs that is moved, and one that is rewritten.
local MOVED, REWRITTEN = 5, 10
-- Messages that it has looked at so far.
local looks = 0
-- Tails that it has given to equal messages.
local tails = 0
