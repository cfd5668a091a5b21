-- Notes that a call to a platform is over and what its answer says is left; returns {left, capacity, rate, calls today}.
-- PARTS budget
-- KEYS budget listings
-- ARGV call is_unused listing remaining told_capacity told_rate throttled_ms capacity rate now_ms
-- FLAGS allow-oom
local now = present_ms(now_ms)
local state = read_budget(budget, now, capacity, rate)
drop_overdue(state)
local ended = state.calls_on_way[call]
redis.call('HDEL', budget, 'c:' .. call)
if ended and is_unused == '1' then
  state.left, state.spent = math.min(state.left + ended.cost, state.capacity), state.spent - ended.cost
  state.calls = math.max(0, state.calls - 1)
  if listing ~= '' and redis.call('HEXISTS', listings, redis.sha1hex(listing)) == 1 then
    redis.call('HINCRBY', listings, redis.sha1hex(listing), -1)
  end
end
if told_capacity ~= '' then
  state.capacity = tonumber(told_capacity)
  redis.call('HSET', budget, 'capacity', told_capacity)
end
if told_rate ~= '' then
  state.rate = tonumber(told_rate)
  redis.call('HSET', budget, 'rate', told_rate)
end
if remaining ~= '' then
  -- Less than we thought is believed at once. More is believed only so far as no other call can use it up that the
  -- platform may not have counted yet: one that was on its way when this one began, or began since.
  local left = tonumber(remaining)
  state.left = math.min(state.left, left)
  if ended then
    state.left = math.max(state.left, left - (state.spent - ended.spent) - ended.others)
  end
end
if tonumber(throttled_ms) > 0 then
  state.left = math.min(state.left, 0)
  state.closed_until = math.max(state.closed_until, now + tonumber(throttled_ms))
end
state.left = math.min(state.left, state.capacity)
write_budget(state)
return {exact(state.left), exact(state.capacity), exact(state.rate), state.calls}
