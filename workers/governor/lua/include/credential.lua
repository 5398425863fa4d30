-- The health of the account's credential. All accounts with the same one share it (ADR 33).
-- read_credential(): reads its fields in one command. O(1).

-- @include keys

-- healthy, ok_at    1 after a healthy answer; time of the last one, ms
-- paused            -1 if the provider refuses it, until an operator resumes one of its accounts
local credential = {}

local function read_credential()
  local values = redis.call('HMGET', KEY.CREDENTIAL, 'healthy', 'ok_at', 'paused')
  credential.healthy, credential.ok_at = tonumber(values[1] or 0), tonumber(values[2] or 0)
  credential.paused = tonumber(values[3] or 0)
end
