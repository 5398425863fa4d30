-- each(run): calls run(argument, settings, record) for each account of the call. Returns the replies
-- in order. An error takes the place of the account's reply and stops no other account (ADR 32).
-- ARGV  1 JSON: settings: [settings, ...]
--               journal: most records in the provider's stream; 0 for none (ADR 41)
--       2.. for each account: the number of its settings, 0 for none; its argument; its record for
--           the journal, or ''

-- @include journal
-- @include keys

local function error_of(problem)
  return { err = type(problem) == 'table' and problem.err or tostring(problem) }
end

-- Most records in the stream.
local journal_most = 0

local function each(run)
  local replies, common = {}, cjson.decode(ARGV[1])
  local settings = common.settings
  journal_most = common.journal
  local function run_at(at) return run(ARGV[at + 1], settings[tonumber(ARGV[at])] or {}, ARGV[at + 2]) end
  for at = 2, #ARGV, 3 do
    local number = (at + 1) / 3
    keys_of(number)
    local done, reply = pcall(run_at, at)
    replies[number] = done and reply or error_of(reply)
  end
  if recorded then
    -- @include bound_journal
    pcall(bound_journal, journal_most)
  end
  return replies
end
