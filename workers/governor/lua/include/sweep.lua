-- sweep(): clears away expired idempotency keys and tombstones (ADR 23). O(SWEPT).

-- @include bounds
-- @include clock
-- @include keys

local function sweep()
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEY.IDEM_ENDS, '-inf', now, 'LIMIT', 0, SWEPT)) do
    redis.call('HDEL', KEY.IDEM, key)
    redis.call('ZREM', KEY.IDEM_ENDS, key)
  end
  local oldest = now - 400 * DAY_MS            -- the lifetime of a tombstone
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEY.REVOKED, '-inf', oldest, 'LIMIT', 0, SWEPT)) do
    redis.call('ZREM', KEY.REVOKED, id)
  end
end
