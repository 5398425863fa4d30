-- account: the fields of the account's hash that a script has read. read_account(fields) reads them in
-- one command: 0, or false for a text, where there is none. O(fields).

-- @include keys

local account = {}
-- seq, last, size                           the quota log: see quota_log.lua
-- paused                                    end of the pause in ms, -1 until somebody resumes it
-- since, quota_until                        when the pause began; end of a 429's freeze
-- healthy, ok_at                            1 after a healthy answer; when the last one was
-- fails, outage, level                      failures in a row; 1 in an outage; how often its pause has grown
-- cursor                                    whose turn was last of those held aside
-- first_seen                                since when the front of a batching queue waits
-- grace                                     until when no lease ends
local TEXTS = {
  reason = true, detail = true,                -- why it pauses
  announced = true,                            -- reason of the pause that was told last
  release = true,                              -- what becomes of those held aside
  run = true,                                  -- run id of the server
}

local function read_account(fields)
  local values = redis.call('HMGET', KEY.META, unpack(fields))
  for i, field in ipairs(fields) do
    local value = values[i]
    if TEXTS[field] then account[field] = value else account[field] = tonumber(value or 0) end
  end
end
