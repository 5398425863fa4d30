-- pause_news(): { 'reason', ..., 'detail', ..., 'until_ms', ... } for the one worker that is to
-- report that the account pauses or goes on (no reason); nil for all others. Without until_ms an
-- operator must resume it. O(1). Fields: reason, announced, paused.

-- @include account
-- @include standing

local function pause_news()
  local reason, until_ms, hash = standing()
  if reason == 'retrying' then reason = '' end   -- TON AI's wait between two tries of an event
  if reason == (account.announced or '') then return nil end
  redis.call('HSET', KEY.META, 'announced', reason)
  local words = { 'reason', reason, 'detail', redis.call('HGET', hash, 'detail') or '' }
  if until_ms == -1 then return words end
  words[5], words[6] = 'until_ms', until_ms
  return words
end
