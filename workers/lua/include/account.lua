-- account: fields of the account's hash, by name. read_account(fields) fills it in one command.
-- A text is false where there is none, a number 0.

-- @include keys

local TEXTS = { reason = true, detail = true, announced = true, release = true, run = true }
local account = {}

local function read_account(fields)
  local values = redis.call('HMGET', META, unpack(fields))
  for i, field in ipairs(fields) do
    local value = values[i]
    if not TEXTS[field] then value = value and tonumber(value) or 0 end
    account[field] = value
  end
end
