-- What all processes together know of an account's breakers. "look" reads one; "permit" asks for one of the few calls
-- that a half open one lets through; "result" tells what came of it, "forget" that nothing did; "trip" opens it.
-- Returns {state, generation, trips, ms until it lets calls through, is permitted, has opened now}.
-- PARTS budget
-- KEYS breaker
-- ARGV step operation permit generation has_failed was_slow permits failed_percent slow_percent open_ms open_max_ms permit_ms chance now_ms
-- FLAGS allow-oom
local now = present_ms(now_ms)
local CLOSED, OPEN, HALF_OPEN = 'closed', 'open', 'half_open'
local seen = words(redis.call('HGET', breaker, operation) or '')
local state = {
  name = seen[1] or CLOSED,
  generation = tonumber(seen[2] or 0),
  trips = tonumber(seen[3] or 0),
  ends = tonumber(seen[4] or 0),
  calls = tonumber(seen[5] or 0),
  failed = tonumber(seen[6] or 0),
  slow = tonumber(seen[7] or 0),
}
-- A clock that was set back must keep nobody away for longer.
state.ends = math.min(state.ends, now + tonumber(open_max_ms))
local is_permitted, has_opened = 0, 0

local function leases()
  local found, prefix = {}, operation .. ':'
  local fields = redis.call('HGETALL', breaker)
  for place = 1, #fields, 2 do
    if string.sub(fields[place], 1, #prefix) == prefix then
      found[fields[place]] = tonumber(fields[place + 1])
    end
  end
  return found
end

local function enter(name)
  for lease in pairs(leases()) do
    redis.call('HDEL', breaker, lease)
  end
  state.name, state.generation = name, state.generation + 1
  state.calls, state.failed, state.slow = 0, 0, 0
end

local function write()
  redis.call('HSET', breaker, operation, table.concat({state.name, state.generation, state.trips,
    string.format('%.0f', state.ends), state.calls, state.failed, state.slow}, ' '))
  redis.call('PEXPIRE', breaker, DAY_MS)
end

local function open()
  enter(OPEN)
  state.trips = state.trips + 1
  local longest = math.min(tonumber(open_max_ms), tonumber(open_ms) * 2 ^ math.min(state.trips - 1, 30))
  state.ends = now + math.ceil(longest * (1 + tonumber(chance)) / 2)
  has_opened = 1
end

local function is_bad()
  return 100 * state.failed >= tonumber(failed_percent) * state.calls
    or 100 * state.slow >= tonumber(slow_percent) * state.calls
end

local function live_leases()
  local count, first = 0, nil
  for lease, ends in pairs(leases()) do
    if ends <= now or ends > now + HOUR_MS then
      redis.call('HDEL', breaker, lease)
    else
      count, first = count + 1, math.min(first or ends, ends)
    end
  end
  return count, first or now
end

local wait = 0
if step == 'permit' then
  if state.name == OPEN and now >= state.ends then
    enter(HALF_OPEN)
    write()
  end
  if state.name == HALF_OPEN then
    local taken, first = live_leases()
    if taken + state.calls < tonumber(permits) then
      redis.call('HSET', breaker, operation .. ':' .. permit, now + tonumber(permit_ms))
      redis.call('PEXPIRE', breaker, DAY_MS)
      is_permitted = 1
    else
      wait = math.max(1, first - now)
    end
  elseif state.name == CLOSED then
    is_permitted = 1
  end
elseif step == 'result' or step == 'forget' then
  -- Whose lease is over has had its place given to somebody else, and every change of state ends all leases.
  local was_there = redis.call('HDEL', breaker, operation .. ':' .. permit)
  if was_there == 1 and step == 'result' and state.name == HALF_OPEN then
    state.calls = state.calls + 1
    state.failed, state.slow = state.failed + tonumber(has_failed), state.slow + tonumber(was_slow)
    if state.calls >= tonumber(permits) then
      if is_bad() then
        open()
      else
        enter(CLOSED)
        state.trips = 0
      end
    end
    write()
  end
elseif step == 'trip' then
  -- What somebody saw before the others opened or closed it says nothing about now.
  if state.name == CLOSED and tonumber(generation) == state.generation then
    open()
    write()
  end
end
if state.name == OPEN then
  wait = math.max(0, state.ends - now)
end
return {state.name, state.generation, state.trips, math.ceil(wait), is_permitted, has_opened}
