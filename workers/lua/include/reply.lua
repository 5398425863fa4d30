-- named(values): a table as a reply { name, value, ... }. What is nil is not in it; true becomes 1.

local function named(values)
  local flat, size = {}, 0
  for name, value in pairs(values) do
    flat[size + 1], flat[size + 2] = name, value
    size = size + 2
  end
  return flat
end
