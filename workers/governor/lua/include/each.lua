-- each(run): calls run(argument, settings, record) for each account of the call. Returns the replies
-- in order. An error takes the place of the account's reply and stops no other account (ADR 32).
-- ARGV  1 JSON: [settings, ...]
--       2 most records in the provider's stream of the journal; 0 for none (ADR 41)
--       3.. for each account: the number of its settings, 0 for none; its argument; its record for
--           the journal, or ''

-- @include journal
-- @include keys

local function error_of(problem)
  return { err = type(problem) == 'table' and problem.err or tostring(problem) }
end

local function each(run)
  local replies, settings = {}, cjson.decode(ARGV[1])
  local function run_at(at) return run(ARGV[at + 1], settings[tonumber(ARGV[at])] or {}, ARGV[at + 2]) end
  for at = 3, #ARGV, 3 do
    local number = at / 3
    keys_of(number)
    local done, reply = pcall(run_at, at)
    replies[number] = done and reply or error_of(reply)
  end
  if recorded and is_above(tonumber(ARGV[2])) then
    -- @include bound_journal
    pcall(bound_journal, tonumber(ARGV[2]))
  end
  return replies
end
