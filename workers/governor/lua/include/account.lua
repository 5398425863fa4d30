-- account: the fields of the account's hash that a script has read. read_account(fields) reads some
-- in one command. A missing field is 0; a missing text is false. O(fields).
-- A field that was not read for this account may hold another account's value: read before use.

-- @include keys

local account = {}
-- paused                                    end of the pause in ms; -1: until an operator resumes
-- it since                                     when the pause began
-- delivered                                 events, since the account exists
-- fails, outage, level                      failures in a row; 1 in an outage; growths of its pause
-- cursor                                    place of the held message that went last
-- first_seen                                since when the front of a batching queue waits
-- grace                                     until when no lease ends
local TEXTS = {
  reason = true, detail = true,                -- why it pauses
  announced = true,                            -- reason of the pause that was reported last
  release = true,                              -- how held messages are released
  run = true,                                  -- run id of the server
  quota = true, credential = true,             -- its keys at the last TAKE
  former = true,                               -- logs that it left and that bind it: "key end ..."
}

local function read_account(fields)
  local values = redis.call('HMGET', KEY.META, unpack(fields))
  for i, field in ipairs(fields) do
    local value = values[i]
    if TEXTS[field] then account[field] = value else account[field] = tonumber(value or 0) end
  end
end
