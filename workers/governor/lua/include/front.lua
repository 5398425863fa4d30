-- to_front(raw): puts a message at the front of its list. O(bytes).

-- @include message

local function priority_list(raw)
  local from = string.find(raw, '"priority"', 1, true)
  if from and string.find(raw, '"priority"', from + 10, true) then   -- a header has that name, too
    -- @include json_text
    local properties = object_at(raw, 'properties')
    from = properties and find_key(raw, properties, 'priority')
  end
  local priority = from and tonumber(string.match(raw, '^"priority"%s*:%s*(%d+)', from)) or 0
  return KEY.LISTS[priority >= 9 and 4 or priority >= 6 and 3 or priority >= 3 and 2 or 1]
end

local function to_front(raw) redis.call('RPUSH', priority_list(raw), raw) end
