-- forget_ended(): takes away the tombstones of the grant's events that have ended. O(messages).

-- @include message

local function forget_ended()
  local goes_on = {}
  for _, line in ipairs(answer.messages or {}) do goes_on[line[1]] = line[2] ~= 'done' end
  for _, group in ipairs(answer.groups or {}) do
    for _, half in ipairs(group) do
      for _, index in ipairs(half) do goes_on[index] = true end
    end
  end
  for index, raw in ipairs(all) do
    if raw and not goes_on[index] then redis.call('ZREM', KEY.REVOKED, plain_header(raw, 'id') or '') end
  end
end
