-- account: the fields of the account's hash that a script has read. read_account(fields) reads them in
-- one command: 0, or false for a text, where there is none. O(fields).
-- What it has not read for this account may be another's: whoever needs a field reads it.

-- @include keys

local account = {}
-- paused                                    end of the pause in ms, -1 until somebody resumes it
-- since                                     when the pause began
-- delivered                                 events, since the account exists
-- fails, outage, level                      failures in a row; 1 in an outage; how often its pause has grown
-- cursor                                    whose turn was last of those held aside
-- first_seen                                since when the front of a batching queue waits
-- grace                                     until when no lease ends
local TEXTS = {
  reason = true, detail = true,                -- why it pauses
  announced = true,                            -- reason of the pause that was told last
  release = true,                              -- what becomes of those held aside
  run = true,                                  -- run id of the server
  quota = true, credential = true,             -- its keys, at the last TAKE
  former = true,                               -- logs that it has left and that bind it: "key end_ms ..."
}

local function read_account(fields)
  local values = redis.call('HMGET', KEY.META, unpack(fields))
  for i, field in ipairs(fields) do
    local value = values[i]
    if TEXTS[field] then account[field] = value else account[field] = tonumber(value or 0) end
  end
end
