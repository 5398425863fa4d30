-- revocations: whether there is any tombstone of a revoked event (ADR 23). It is read once for all
-- accounts of a call. O(1).

-- @include keys

local revocations = redis.call('EXISTS', KEY.REVOKED) == 1
