-- take_batch(): takes out a batch of one task. Messages of other tasks keep their order. While the
-- oldest message lingers, a full batch of another task may go. When its time is over, it goes with
-- the messages of its task that are there.
-- Returns the messages; or nil and the ms until a batch is ready; or nil. O(LOOK_AHEAD messages).
-- Settings: batch_max, max_bytes, linger_ms.

-- @include account
-- @include bounds
-- @include due
-- @include size
-- @include sorted
-- @include state

local function enqueued_ms(raw)
  local from = string.find(raw, '"postback_at"', 1, true)
  return from and tonumber(string.match(raw, '^"postback_at"%s*:%s*(%d+)', from)) or now
end

-- The oldest message decides how long the batch may wait for others.
local function linger(search, raw, task)
  if account.first_seen == 0 then
    account.first_seen = now
    redis.call('HSET', KEY.META, 'first_seen', string.format('%.3f', now))
  end
  search.linger_ms = math.min(enqueued_ms(raw), account.first_seen) + settings.linger_ms - now
  if search.linger_ms <= 0 then search.overdue = task end
end

local function add_to_batch(search, raw, task, list, place)
  local batch = search.batches[task]
  if not batch then
    batch = { items = {}, bytes = 1 }
    search.batches[task] = batch
    search.oldest = search.oldest or task
  end
  local bytes = body_bytes(raw)
  if #batch.items > 0 and batch.bytes + bytes > settings.max_bytes then
    search.ready = task
    return
  end
  batch.items[#batch.items + 1] = { raw = raw, list = list, place = place }
  batch.bytes = batch.bytes + bytes
  if #batch.items >= settings.batch_max then search.ready = task end
end

local function consider(search, raw, list, place)
  local task = task_of(raw)
  local alone = string.find(raw, '"postback"', 1, true) and state_of(raw).crashes >= 2
  if alone and not search.oldest then          -- it killed two workers: it goes alone
    redis.call('LREM', KEY.LISTS[list], -1, raw)
    search.alone = raw
    return
  end
  if not search.linger_ms then linger(search, raw, task) end
  if not alone and (not search.overdue or task == search.overdue) then
    add_to_batch(search, raw, task, list, place)
  end
end

-- Searches one list from its front, a slice at a time. Places are counted from the front.
local function look_through(search, list)
  local left = math.min(LOOK_AHEAD - search.seen, redis.call('LLEN', KEY.LISTS[list]))
  local step, passed = settings.batch_max, 0
  for _ = 1, LOOK_AHEAD do
    if left <= 0 then return end
    local wanted = math.min(step, left)
    local slice = redis.call('LRANGE', KEY.LISTS[list], -(passed + wanted), -(passed + 1))
    for i = #slice, 1, -1 do
      local raw = slice[i]
      local due = not_due(raw)
      if due then
        redis.call('LREM', KEY.LISTS[list], -1, raw)
        add_to(KEY.DELAYED, due, raw)
        passed = passed - 1
      else
        consider(search, raw, list, passed + #slice - i + 1)
        if search.alone then return end
        if search.ready then break end
      end
    end
    search.seen, passed, left, looks = search.seen + wanted, passed + wanted, left - wanted, looks + wanted
    if search.ready then return end
    step = LOOK_AHEAD
  end
end

-- Takes a batch's messages out of their lists: with one cut if they are together at the front.
local function take_out(items)
  local raws, picked, together = {}, { {}, {}, {}, {} }, { true, true, true, true }
  for _, item in ipairs(items) do
    raws[#raws + 1] = item.raw
    local of_list = picked[item.list]
    of_list[#of_list + 1] = item.raw
    if item.place ~= #of_list then together[item.list] = false end
  end
  for list, of_list in ipairs(picked) do
    if #of_list > 0 and together[list] then
      redis.call('LTRIM', KEY.LISTS[list], 0, -(#of_list + 1))
    else
      for _, raw in ipairs(of_list) do redis.call('LREM', KEY.LISTS[list], -1, raw) end
    end
  end
  return raws
end

local function take_batch()
  read_account({ 'first_seen' })
  local search = { batches = {}, seen = 0 }
  for list = 1, 4 do
    look_through(search, list)
    if search.alone then return { search.alone } end
    if search.ready then break end
  end
  if not search.oldest then
    if account.first_seen ~= 0 then redis.call('HDEL', KEY.META, 'first_seen') end
    return nil
  end
  if not search.ready and search.linger_ms > 0 then return nil, search.linger_ms end
  local task = search.ready or search.oldest
  if task == search.oldest then                -- otherwise the oldest goes on waiting
    redis.call('HDEL', KEY.META, 'first_seen')
    account.first_seen = 0
  end
  return take_out(search.batches[task].items)
end
