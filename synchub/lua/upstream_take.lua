-- Counts one call to a platform that is to begin now. Returns {1, left, capacity, rate, calls today, ''} when it may,
-- and {0, left, capacity, rate, calls today, why, ms} when it has to wait: for as long as ms, or for the end of another call.
-- PARTS budget
-- KEYS budget listings
-- ARGV call process priority cost kept slots capacity rate per_day listing per_listing owed owed_calls lease_ms waits_ms now_ms
-- FLAGS allow-oom
local now = present_ms(now_ms)
local state = read_budget(budget, now, capacity, rate)
local on_way, cost_on_way, first_end = drop_overdue(state)
cost, kept, slots, per_day, per_listing = tonumber(cost), tonumber(kept), tonumber(slots), tonumber(per_day), tonumber(per_listing)
-- What was called while the store was away.
state.left = state.left - tonumber(owed)
state.calls = state.calls + tonumber(owed_calls)
local midnight_ms = (state.day + 1) * DAY_MS - now

local function told(may, why, ms)
  write_budget(state)
  return {may, exact(state.left), exact(state.capacity), exact(state.rate), state.calls, why, ms}
end

-- The asker goes on waiting and is to be preferred to whoever is less urgent, unless that would take too long.
local function put_off(why, ms)
  local gives_up = ms > tonumber(waits_ms) and why ~= 'slots' and why ~= 'outranked'
  if gives_up or tonumber(waits_ms) <= 0 then
    redis.call('HDEL', budget, 'w:' .. process)
  else
    redis.call('HSET', budget, 'w:' .. process, priority .. ' ' .. now + math.min(ms, 1000) + 500)
  end
  return told(0, why, math.ceil(ms))
end

local function refuse(why)
  redis.call('HDEL', budget, 'w:' .. process)
  return told(0, why, midnight_ms)
end

local function is_outranked()
  for name, waiter in pairs(state.waiting) do
    if name ~= process and waiter.priority > tonumber(priority) then
      return true
    end
  end
  return false
end

if per_day > 0 and state.calls >= per_day - math.floor(per_day * kept) then
  return refuse('day')
end
local is_counted = per_listing > 0 and listing ~= ''
if is_counted then
  if tonumber(redis.call('HGET', listings, 'day') or state.day) ~= state.day then
    redis.call('DEL', listings)
  end
  if tonumber(redis.call('HGET', listings, redis.sha1hex(listing)) or 0) >= per_listing then
    return refuse('listing')
  end
end
if state.closed_until > now then
  return put_off('throttled', state.closed_until - now)
end
if is_outranked() then
  return put_off('outranked', 1)
end
if on_way >= slots then
  return put_off('slots', first_end - now)
end
-- A call that costs more than there can be begins when the bucket is full, and leaves a debt.
local needed = math.min(cost + state.capacity * kept, state.capacity)
if state.left < needed - 1e-9 then
  return put_off('bucket', (needed - state.left) / state.rate * 1000)
end
state.left, state.calls = state.left - cost, state.calls + 1
if on_way == 0 then
  state.spent = 0
end
state.spent = state.spent + cost
redis.call('HDEL', budget, 'w:' .. process)
redis.call('HSET', budget, 'c:' .. call,
  now + tonumber(lease_ms) .. ' ' .. exact(cost) .. ' ' .. exact(state.spent) .. ' ' .. exact(cost_on_way))
if is_counted then
  redis.call('HINCRBY', listings, redis.sha1hex(listing), 1)
  redis.call('HSET', listings, 'day', state.day)
  redis.call('PEXPIRE', listings, DAY_MS)
end
return told(1, '', 0)
