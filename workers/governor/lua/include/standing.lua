-- standing(): why the account pauses, until when (ms; -1: until an operator resumes it), and the
-- hash with a few words about it: the account's, its credential's, or its quota's after a 429. A
-- reason stays after its time until a healthy answer. O(1). Fields: reason, paused.

-- @include account
-- @include credential
-- @include logs

local function standing()
  if account.paused == -1 then return account.reason or '', -1, KEY.META end
  if credential.paused == -1 then return 'credentials', -1, KEY.CREDENTIAL end
  local quota = logs[1]
  if quota.frozen > account.paused then return 'quota', quota.frozen, quota.hash end
  return account.reason or '', account.paused, KEY.META
end
