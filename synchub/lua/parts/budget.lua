-- What is left of a platform's limits for one account: a bucket that fills by itself, and the calls on their way.
-- Fields: left (at), capacity and rate as the platform itself has told them, until (no calls before), day and calls,
-- spent (by all calls since none was on its way), in_all and restored (as they were counted with), c:<call> = deadline cost spent-then others-then,
-- w:<process> = priority until.

local DAY_MS = 86400000
local HOUR_MS = 3600000

local function present_ms(told)
  if tonumber(told) > 0 then
    return tonumber(told)
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function words(text)
  local found = {}
  for word in string.gmatch(text, '%S+') do
    found[#found + 1] = word
  end
  return found
end

local function exact(number)
  return string.format('%.17g', number)
end

-- Reads what is there and lets the bucket fill up to the present.
local function read_budget(key, now, capacity, rate)
  local found = redis.call('HGETALL', key)
  local budget = {key = key, now = now, calls_on_way = {}, waiting = {}, fields = {}}
  for place = 1, #found, 2 do
    local name, value = found[place], found[place + 1]
    local kind, rest = string.sub(name, 1, 2), string.sub(name, 3)
    if kind == 'c:' then
      local told = words(value)
      budget.calls_on_way[rest] = {ends = tonumber(told[1]), cost = tonumber(told[2]),
        spent = tonumber(told[3]), others = tonumber(told[4])}
    elseif kind == 'w:' then
      local told = words(value)
      budget.waiting[rest] = {priority = tonumber(told[1]), ends = tonumber(told[2])}
    else
      budget.fields[name] = tonumber(value)
    end
  end
  local fields = budget.fields
  budget.capacity = fields.capacity or tonumber(capacity)
  budget.rate = fields.rate or tonumber(rate)
  budget.closed_until = math.min(fields['until'] or 0, now + HOUR_MS)
  budget.left = fields.left or budget.capacity
  local from = math.max(fields.at or now, budget.closed_until)
  if now > from then
    budget.left = budget.left + (now - from) / 1000 * budget.rate
  end
  budget.left = math.min(budget.left, budget.capacity)
  budget.day = math.floor(now / DAY_MS)
  budget.calls = fields.day == budget.day and fields.calls or 0
  budget.spent = fields.spent or 0
  return budget
end

local function write_budget(budget)
  redis.call('HSET', budget.key, 'left', exact(budget.left), 'at', budget.now, 'until', budget.closed_until,
    'day', budget.day, 'calls', budget.calls, 'spent', exact(budget.spent),
    'in_all', exact(budget.capacity), 'restored', exact(budget.rate))
  redis.call('PEXPIRE', budget.key, DAY_MS)
end

-- Forgets calls whose process has not told their end in time, and who no longer waits; returns how many calls are on
-- their way, what they cost, and when the first of them is forgotten.
local function drop_overdue(budget)
  local count, cost, first = 0, 0, nil
  for name, call in pairs(budget.calls_on_way) do
    -- Neither may a clock that was set back keep a place taken for longer than any call lasts.
    if call.ends <= budget.now or call.ends > budget.now + HOUR_MS then
      redis.call('HDEL', budget.key, 'c:' .. name)
      budget.calls_on_way[name] = nil
    else
      count, cost = count + 1, cost + call.cost
      first = math.min(first or call.ends, call.ends)
    end
  end
  for name, waiter in pairs(budget.waiting) do
    if waiter.ends <= budget.now or waiter.ends > budget.now + HOUR_MS then
      redis.call('HDEL', budget.key, 'w:' .. name)
      budget.waiting[name] = nil
    end
  end
  return count, cost, first
end
