-- bound_journal(most): removes the oldest records of the stream above `most`, and counts them in the
-- hash `<stream>.gap`: lost, since, until (ms). A hundredth of them goes at once, so that few calls
-- have this work. O(removed).

-- @include keys

local function bound_journal(most)
  -- The time of the oldest record, ms as text.
  local function oldest()
    local first = redis.call('XRANGE', KEY.JOURNAL, '-', '+', 'COUNT', 1)[1]
    return first and string.match(first[1], '^%d+') or '0'
  end
  local since, gap = oldest(), KEY.JOURNAL .. '.gap'
  local lost = redis.call('XTRIM', KEY.JOURNAL, 'MAXLEN', most - math.ceil(most / 100))
  redis.call('HSETNX', gap, 'since', since)
  redis.call('HSET', gap, 'until', oldest())
  redis.call('HINCRBY', gap, 'lost', lost)
end
