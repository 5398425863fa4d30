-- revocations: whether any tombstone of a revoked event stands (ADR 23). One look serves all accounts of a
-- call. O(1).

-- @include keys

local revocations = redis.call('EXISTS', KEY.REVOKED) == 1
