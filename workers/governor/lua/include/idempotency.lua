-- Idempotency keys (ADR 12). An owner is recorded by its id and its delivery tag, which is new for
-- every publishing. So a message that is delivered again passes, and a second copy with the same id
-- does not. An event without an id has no key. O(1).

-- @include clock
-- @include message

-- The idempotency key, or nil. The SDK's have 64 characters.
local function key_of(raw)
  local key = plain_header(raw, 'postback_key')
  return key and key ~= '' and #key <= 255 and key or nil
end

local function tag_of(raw)
  local from = string.find(raw, '"delivery_tag"', 1, true)
  return from and string.match(raw, '^"delivery_tag"%s*:%s*"([^"\\%s]*)"', from) or ''
end

-- The id of the event that owns this one's key; '' if this message owns it or claims it now.
local function claim_key(raw, dedup_ms)
  local key = key_of(raw)
  local id = key and plain_header(raw, 'id') or ''
  if id == '' then return '' end
  local tag = tag_of(raw)
  local owner = redis.call('HGET', KEY.IDEM, key)
  if owner then
    local first, ends, first_tag = string.match(owner, '^(.+) (%d+) (%S*)$')
    if first == id and first_tag == tag then return '' end
    if first and tonumber(ends) > now then return first end
  end
  local ends_ms = string.format('%.0f', now + dedup_ms)
  redis.call('HSET', KEY.IDEM, key, id .. ' ' .. ends_ms .. ' ' .. tag)
  redis.call('ZADD', KEY.IDEM_ENDS, now + dedup_ms, key)
  return ''
end
