-- COUNT_DEAD: counts a part of a provider's dead letters by queue and reason. It only reads.
--
-- KEYS  1 dead-letter list
-- ARGV  1 first, 2 last: places in the list, as for LRANGE
-- Returns { "<queue> <reason>", count, ... }; the queue is empty if the message does not say it.
-- O(bytes of the part); call it with a thousand places at a time.

local counts, order = {}, {}
for _, raw in ipairs(redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[2])) do
  local info = string.find(raw, '"delivery_info"', 1, true)
  local queue = info and string.match(raw, '"routing_key"%s*:%s*"([^"\\]*)"', info) or ''
  local letter = string.find(raw, '"postback_dead"', 1, true)
  local reason = letter and string.match(raw, '^"postback_dead"%s*:%s*{%s*"reason"%s*:%s*"([^"\\]*)"', letter) or 'malformed'
  local name = queue .. ' ' .. reason
  if not counts[name] then
    counts[name] = 0
    order[#order + 1] = name
  end
  counts[name] = counts[name] + 1
end
local out = {}
for _, name in ipairs(order) do
  out[#out + 1] = name
  out[#out + 1] = counts[name]
end
return out
