-- account: the fields of the account's hash that the scripts go by, 0 or false where there is none.
-- read_account(fields) reads some of them, in one command. O(fields).

-- @include keys

local account = {
  seq = 0, last = 0, size = 0,                 -- the quota log: see quota_log.lua
  paused = 0, reason = false, detail = false,  -- end of the pause in ms, -1 until somebody resumes it; why
  since = 0, quota_until = 0,                  -- when the pause began; end of a 429's freeze
  announced = false,                           -- reason of the pause that was told last
  healthy = 0, ok_at = 0,                      -- 1 after a healthy answer; when the last one was
  fails = 0, level = 0,                        -- failures in a row; how often the pause has grown
  release = false, cursor = 0,                 -- what becomes of those held aside; whose turn was last
  first_seen = 0,                              -- since when the front of a batching queue waits
  run = false, grace = 0,                      -- run id of the server; until when no lease ends
}

local function read_account(fields)
  local values = redis.call('HMGET', KEY.META, unpack(fields))
  for i, field in ipairs(fields) do
    local value = values[i]
    if value then account[field] = account[field] == 0 and tonumber(value) or value end
  end
end
