-- pause_news(): { 'reason', ..., 'detail', ..., 'until_ms', ... } for the one worker that is to say
-- that the account pauses, for whatever reason, or that it goes on (no reason); else nil. No
-- until_ms: until somebody resumes it. O(1). Fields: reason, announced, paused.

-- @include account

local function pause_news()
  local reason = account.reason or ''
  if reason == 'retrying' then reason = '' end   -- TON AI's wait between two tries of an event
  if reason == (account.announced or '') then return nil end
  redis.call('HSET', KEY.META, 'announced', reason)
  read_account({ 'detail' })
  local words = { 'reason', reason, 'detail', account.detail or '' }
  if account.paused == -1 then return words end
  words[5], words[6] = 'until_ms', account.paused
  return words
end
