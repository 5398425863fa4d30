-- sweep(): clears away idempotency keys and tombstones whose time is over. O(SWEPT).

-- @include bounds
-- @include clock
-- @include revoked

local revocations = redis.call('EXISTS', REVOKED) == 1

local function sweep()
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', IDEM_ENDS, '-inf', now, 'LIMIT', 0, SWEPT)) do
    redis.call('HDEL', IDEM, key)
    redis.call('ZREM', IDEM_ENDS, key)
  end
  if not revocations then return end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', REVOKED, '-inf', now - REVOKED_MS, 'LIMIT', 0, SWEPT)) do
    redis.call('ZREM', REVOKED, id)
  end
end
