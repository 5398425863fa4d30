-- each(run): calls run(argument, settings) for each account of the call. Returns the replies in
-- order. An error takes the place of the account's reply and stops no other account (ADR 32).
-- ARGV  1 JSON: [settings, ...]
--       2.. for each account: the number of its settings, 0 for none; its argument

-- @include keys

local function error_of(problem)
  return { err = type(problem) == 'table' and problem.err or tostring(problem) }
end

local function each(run)
  local replies, settings = {}, cjson.decode(ARGV[1])
  local function run_at(at) return run(ARGV[at + 1], settings[tonumber(ARGV[at])] or {}) end
  for at = 2, #ARGV, 2 do
    local number = at / 2
    keys_of(number)
    local done, reply = pcall(run_at, at)
    replies[number] = done and reply or error_of(reply)
  end
  return replies
end
