-- What becomes of open sales: where they are taken from, where they move, and which source has them pending.

local LINES_AT_ONCE = 1000 -- lines of one SKU looked at in one step; the oldest first

-- Lines that somebody may still include, and those that all contain and only a newcomer may not.
local function open_lines(sku)
  return tag .. 'open:' .. sku
end

local function past_lines(sku)
  return tag .. 'past:' .. sku
end

local function file(state, line)
  local is_past = line.status == 'h' or line.q == 0
    or (is_included_by_all(state, line) and is_quiet(state, line))
  redis.call('ZREM', is_past and open_lines(line.sku) or past_lines(line.sku), line.id)
  redis.call('ZADD', is_past and past_lines(line.sku) or open_lines(line.sku), text(line.at), line.id)
end

local function evaluate_everywhere(state, line)
  for place in pairs(line.places) do
    for _, s in ipairs(authorities_at(state, place)) do
      evaluate(state, line, s)
    end
  end
  file(state, line)
  save_line(line)
end

-- Changes how many units of a line lie at a place.
local function put(state, line, place, units)
  if units == 0 then
    return
  end
  add_to(state, 'o', place, units)
  local left = (line.places[place] or 0) + units
  line.places[place] = left ~= 0 and left or nil
  for _, s in ipairs(authorities_at(state, place)) do -- none where only the answer is known: nothing is included yet
    local too_many = (line.inc[s.field] or 0) - left
    if too_many > 0 then
      s.included = s.included - too_many
      line.inc[s.field] = left
      keep_source(state, s)
    end
  end
end

-- Where the account that took the order itself counts the SKU.
local function own_places(state, origin)
  local found = {}
  if origin ~= '' and role_of(origin).kind == 'A' and role_of(origin).own then
    for _, s in pairs(state.sources) do
      if s.account == origin and s.status == 'K' then
        found[s.place] = true
      end
    end
  end
  return found
end

-- Which places a sale is taken from: one that has it all where possible, otherwise several; first those that the
-- merchant wants to serve the country from, then those that it wants to sell from, then the fullest.
local function choose(state, units, origin, country)
  local order, near = {}, places_near(country or '')
  local own = origin ~= '' and own_places(state, origin) or {}
  local has_own = next(own) ~= nil
  for _, cell in ipairs(cells_of(state)) do
    if not has_own or own[cell.place] then
      order[#order + 1] = {place = cell.place, free = cell.base - cell.held,
        near = near[cell.place] or math.huge, rank = general().places[cell.place] or math.huge}
    end
  end
  if #order == 0 then
    return {{place = '', n = units}}
  end
  table.sort(order, function(a, b)
    if a.near ~= b.near then
      return a.near < b.near
    end
    if a.rank ~= b.rank then
      return a.rank < b.rank
    end
    if a.free ~= b.free then
      return a.free > b.free
    end
    return a.place < b.place
  end)
  for _, cell in ipairs(order) do
    if cell.free >= units then
      return {{place = cell.place, n = units}}
    end
  end
  local chosen, left = {}, units
  for _, cell in ipairs(order) do
    local n = math.max(0, math.min(left, cell.free))
    if n > 0 then
      chosen[#chosen + 1] = {place = cell.place, n = n}
      left = left - n
    end
  end
  if left > 0 then
    if chosen[1] then
      chosen[1].n = chosen[1].n + left
    else
      chosen[1] = {place = order[1].place, n = left}
    end
  end
  return chosen
end

-- Moves units of a sale to a place, first those of which nobody has said where they lie.
local function move_to(state, line, place, told)
  local from = {}
  for other in pairs(line.places) do
    if other ~= place then
      from[#from + 1] = other
    end
  end
  table.sort(from)
  local left = math.min(told[place], line.q) - (line.places[place] or 0)
  for _, spares in ipairs({true, false}) do
    for _, other in ipairs(from) do
      local there = line.places[other] or 0
      local n = math.min(left, spares and there - math.max(0, told[other] or 0) or there)
      if n > 0 then
        put(state, line, other, -n)
        put(state, line, place, n)
        left = left - n
      end
    end
  end
end

-- The places that authorities have acknowledged units of the line at, that of the newest last, and the units.
local function told_places(line)
  local told, places, is_listed = {}, {}, {}
  for i = #line.acks, 1, -1 do
    local ack = line.acks[i]
    if ack.place ~= '' and not ack.x and role_of(ack.account).kind == 'A' then
      told[ack.place] = (told[ack.place] or 0) + ack.n
      if ack.n > 0 and not is_listed[ack.place] then
        is_listed[ack.place] = true
        table.insert(places, 1, ack.place)
      end
    end
  end
  return told, places
end

-- A sale lies where it is acknowledged, as far as it is.
local function follow_acks(state, line)
  local told, places = told_places(line)
  if #places == 0 or line.q == 0 then
    return
  end
  for _, place in ipairs(places) do
    move_to(state, line, place, told)
  end
  local is_told = true
  for place, units in pairs(line.places) do
    is_told = is_told and units <= (told[place] or 0)
  end
  line.placed = line.placed or is_told
end

local function retire_later(line, after_ms)
  redis.call('ZADD', tag .. 'due', text(now + after_ms), 'p' .. US .. line.id)
end

-- How long sales take to reach a source that acknowledges them, counted in steps of a quarter of an octave.
local STEPS_PER_OCTAVE, STEPS_MAX = 4, 120
local times = tag .. 'evidence-times'

local function step_of(ms)
  return ms <= 1 and 0 or math.min(STEPS_MAX, math.ceil(STEPS_PER_OCTAVE * math.log(ms) / math.log(2)))
end

-- Whether a level is thought to contain the sale since a read came late enough, and the version says that it does not.
local function is_contradicted(state, line, row, s)
  return s.account == row.account and (line.inc[s.field] or 0) > 0 and s.v ~= '' and s.scale == row.scale
    and shifted(s.v, s.resolution) < row.version and pending_by_time(state, line, s) == 0
end

-- The way is longer than was thought; what was thought to have come by it is looked at again.
local function lengthen(line, row, way, ms)
  local name = row.account .. US .. line.origin
  redis.call('HSET', evidence, name, 'lag|' .. text(math.min(ms, DAY_MS)) .. string.match(way.text, '^lag|%d+(.*)$'))
  redis.call('HINCRBY', times, name .. US .. 'late', '1')
  redis.call('ZADD', tag .. 'due', text(now), 'a' .. US .. row.account .. US)
  way_cache[name] = nil
end

local function learn_from_ack(state, line, row)
  local newest = line.takes[#line.takes]
  if not newest or line.origin == '' or line.status == 'h' or role_of(row.account).kind ~= 'A' then
    return
  end
  local took = math.max(0, row.at - (newest.told or newest.at))
  redis.call('HINCRBY', times, row.account .. US .. line.origin .. US .. text(step_of(took)), '1')
  local way = way_to(row.account, line.origin)
  if type(way) ~= 'table' or row.version == '' then
    return
  end
  for place in pairs(line.places) do
    for _, s in ipairs(authorities_at(state, place)) do
      if is_contradicted(state, line, row, s) then
        return lengthen(line, row, way, math.max(way.ms + 1, took))
      end
    end
  end
end

-- Adds units to a line: sold, and taken off at these places until the sources contain them.
local function take_units(state, line, part, chosen)
  line.takes[#line.takes + 1] = part
  line.q = line.q + part.n
  line.at = now
  for _, at_place in ipairs(chosen) do
    put(state, line, at_place.place, at_place.n)
  end
  retire_later(line, tonumber(settle_memory_ms))
end

-- Takes a line out of the reckoning altogether.
local function drop_units(state, line)
  for place, units in pairs(line.places) do
    put(state, line, place, -units)
  end
  for _, s in pairs(state.sources) do
    if (line.inc[s.field] or 0) > 0 then
      s.included = s.included - line.inc[s.field]
      keep_source(state, s)
    end
  end
  line.q, line.places, line.takes, line.gives, line.inc = 0, {}, {}, {}, {}
  redis.call('ZREM', open_lines(line.sku), line.id)
  redis.call('ZREM', past_lines(line.sku), line.id)
  save_line(line)
end

local function move_all(state, from, place)
  local moved = false
  for _, set in ipairs({open_lines(state.sku), past_lines(state.sku)}) do
    for _, id in ipairs(redis.call('ZRANGE', set, 0, LINES_AT_ONCE - 1)) do
      local line = load_line(id)
      local units = line and line.places[from] or 0
      if units > 0 then
        put(state, line, from, -units)
        put(state, line, place, units)
        evaluate_everywhere(state, line)
        moved = true
      end
    end
  end
  return moved
end

-- What was sold without a place, or where only a total was known, lies where the first place is counted.
local function find_places(state, s)
  for from, units in pairs(state.open) do
    if units > 0 and (from == '' or (s.status == 'K' and is_total_of(from, s.place))) then
      return move_all(state, from, s.place) and find_places(state, s)
    end
  end
end

-- A newcomer, or one that begins anew, may lack sales that all others have long contained.
local function join(state, s)
  if redis.call('EXISTS', past_lines(state.sku)) == 1 then
    redis.call('ZUNIONSTORE', open_lines(state.sku), 2, open_lines(state.sku), past_lines(state.sku), 'AGGREGATE', 'MAX')
    redis.call('DEL', past_lines(state.sku))
  end
  for _, id in ipairs(redis.call('ZRANGE', open_lines(state.sku), 0, -1)) do
    local line = load_line(id)
    if line and line.inc[s.field] then
      line.inc[s.field] = nil
      save_line(line)
    end
  end
  s.included, s.joined = 0, true
  keep_source(state, s)
end

-- After a source has spoken: which sales does its level contain by now?
local function absorb(state, s)
  if role_of(s.account).kind ~= 'A' then
    return
  end
  if next(state.open) == nil then -- nothing is sold of it
    s.joined = true
    return
  end
  if not s.joined then
    join(state, s)
  end
  find_places(state, s)
  for _, id in ipairs(redis.call('ZRANGE', open_lines(state.sku), 0, LINES_AT_ONCE - 1)) do
    local line = load_line(id)
    if line then
      evaluate_everywhere(state, line) -- what one place says may tell about another place of the same account
    end
  end
end

-- What counts of the source has changed: what it contains of all sales is found out again.
local function rejoin(state, s)
  s.joined = false
  if next(state.open) == nil then
    s.included = 0
  end
  keep_source(state, s)
  absorb(state, s)
end

-- The source has begun anew: nothing that it included before is certain.
local function begin_anew(s)
  s.joined, s.reset_at = false, s.lower_at
end
