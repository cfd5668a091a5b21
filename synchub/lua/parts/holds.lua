-- Holds: units that nobody else can be granted until a deadline.

local LAPSE_AT_ONCE = 64
local LATER_AT_ONCE = 1000 -- later holds looked at for one that lies beyond the stock

local holds, holds_due = tag .. 'holds', tag .. 'holds-due'
local REMEMBER_MS = tonumber(remember_ms)

local function read_hold(id)
  local stored = redis.call('HGET', holds, id)
  return stored and cjson.decode(stored) or nil
end

local function write_hold(hold)
  local stored = cjson.encode(hold)
  redis.call('HSET', holds, hold.id, stored)
  return stored
end

local function is_live(hold)
  return hold ~= nil and hold.status == 'held' and hold.deadline > now
end

-- A hold as it is now: one that is over is over, whether or not anybody has said so yet.
local function present(id)
  local hold = read_hold(id)
  if hold and hold.status == 'held' and not is_live(hold) then
    hold.status = 'expired'
  end
  return hold and cjson.encode(hold) or ''
end

-- What agents, buyers and channels have had of a SKU, by day.
local COUNTS_KEPT_MS = 3 * DAY_MS

local function counts_on(day)
  return tag .. 'counts:' .. day
end

local function day_now()
  return text(math.floor(now / DAY_MS))
end

local function counted(field)
  return tonumber(redis.call('HGET', counts_on(day_now()), field) or '0')
end

local function count(day, field, units)
  redis.call('HINCRBY', counts_on(day), field, text(units))
  redis.call('PEXPIRE', counts_on(day), text(COUNTS_KEPT_MS), 'NX')
end

local function count_line(hold, line, sign)
  for _, limit in ipairs(line.limits or {}) do
    count(hold.day, limit.field, sign * line.quantity)
  end
end

local function sku_holds(sku)
  return tag .. 'sku-holds:' .. sku
end

local function member_of(hold, line)
  return hold.id .. US .. text(line.quantity) .. US .. line.location
end

-- What the hold's change did to one SKU, in ledger and feed.
local function note(state, hold, place, from, to, cause, more)
  state.whose = state.whose or {}
  state.whose[hold.agent] = true
  return emit_later(state, place, hold.id, from, to, cause, more)
end

local function set_aside(state, line, units)
  state.held = state.held + units
  state.ats = state.ats - units
  if line.location ~= '' then
    add_to(state, 'h', line.location, units)
    change_cell(state, line.location, 0, units)
  end
end

local function unsold(hold)
  local left = {}
  for _, line in ipairs(hold.lines) do
    if not line.sold then
      left[#left + 1] = line
    end
  end
  return left
end

-- Ends what the hold keeps; the caller says what it has become.
local function give_back(hold, status, cause)
  for _, line in ipairs(unsold(hold)) do
    local state = load_answer(line.sku)
    set_aside(state, line, -line.quantity)
    redis.call('ZREM', sku_holds(line.sku), member_of(hold, line))
    note(state, hold, line.location, 'held:' .. text(line.quantity), status, cause)
    count_line(hold, line, -1)
  end
  redis.call('ZREM', holds_due, hold.id)
end

local function close_hold(hold, status)
  hold.status, hold.ended = status, now
  redis.call('ZADD', tag .. 'due', text(now + REMEMBER_MS), 'm' .. US .. hold.id)
  return write_hold(hold)
end

-- Units by which sales and holds up to this one are more than there is and may be oversold; later holds lose first.
local function shortage(state, hold, line, allowance)
  local short = -(state.ats + allowance)
  if short <= 0 or state.known == 0 or (state.stale == 1 and line.is_assumed) then
    return 0 -- what is sold on trust has no number that it could lie beyond
  end
  local later = redis.call('ZREVRANGEBYSCORE', sku_holds(line.sku), '+inf', '(' .. text(hold.seq), 'LIMIT', 0,
    text(math.min(short, LATER_AT_ONCE)))
  for _, member in ipairs(later) do
    short = short - tonumber(string.match(member, '\31(%d+)\31'))
  end
  return math.max(0, short)
end

local function lies_beyond(state, hold, line, freed)
  return shortage(state, hold, line, math.floor(math.max(0, state.ref) * line.allowance_bp / 10000) + (freed or 0))
end

-- Lets the holds end that are over by now, at most so many in one step.
local function lapse_holds()
  local due = redis.call('ZRANGEBYSCORE', holds_due, '-inf', text(now), 'LIMIT', 0, LAPSE_AT_ONCE)
  for _, id in ipairs(due) do
    local hold = read_hold(id)
    if hold and hold.status == 'held' then
      give_back(hold, 'expired', 'deadline')
      close_hold(hold, 'expired')
    else
      redis.call('ZREM', holds_due, id)
    end
  end
  return #due
end
