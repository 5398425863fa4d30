-- The health of the account's credential, which is that of all accounts that have the same one (ADR 33).
-- read_credential(): its fields, in one command. O(1).

-- @include keys

-- healthy, ok_at    1 after a healthy answer; when the last one was, ms
-- paused            -1 since the provider refuses it, until somebody resumes one of its accounts
local credential = {}

local function read_credential()
  local values = redis.call('HMGET', KEY.CREDENTIAL, 'healthy', 'ok_at', 'paused')
  credential.healthy, credential.ok_at = tonumber(values[1] or 0), tonumber(values[2] or 0)
  credential.paused = tonumber(values[3] or 0)
end
