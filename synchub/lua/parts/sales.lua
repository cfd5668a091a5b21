-- The registry of sales: one line per sale and SKU, known by many names, included by each source in its time.

local LINES_AT_ONCE = 1000 -- lines of one SKU looked at in one step; the oldest first
local ACKS_MAX = 64 -- kept of one line; further ones are counted into the last

local lines, names = tag .. 'lines', tag .. 'names'
local line_cache = {}

local function load_line(id)
  if line_cache[id] == nil then
    local packed = redis.call('HGET', lines, id)
    line_cache[id] = packed and cmsgpack.unpack(packed) or false
  end
  return line_cache[id] or nil
end

local function save_line(line)
  line_cache[line.id] = line
  redis.call('HSET', lines, line.id, cmsgpack.pack(line))
end

local function line_named(name)
  local id = redis.call('HGET', names, name)
  return id and load_line(id) or nil
end

local function give_name(line, name)
  if redis.call('HSETNX', names, name, line.id) == 1 then
    line.names[#line.names + 1] = name
  end
end

-- All lines that belong to an order, by the number that it has on its platform.
local function order_in(name)
  local order = string.match(name, '^c\31([^\31]*)\31')
  return order and tag .. 'order:' .. order
end

local function note_order(line, name)
  if order_in(name) then
    redis.call('SADD', order_in(name), line.id)
  end
end

local function new_line(name, sku, status)
  -- A name can have passed from one line to another: then it is nobody's id any more.
  local id = load_line(name) and name .. US .. text(seq) or name
  return {id = id, sku = sku, origin = '', status = status, q = 0, places = {}, takes = {}, gives = {}, acks = {},
    inc = {}, names = {}, scale = '', v = '', final = false, at = now, parts = 1}
end

local function sum(list)
  local units = 0
  for _, part in ipairs(list) do
    units = units + part.n
  end
  return units
end

-- Whether the source's level was true after `us`, the latest moment at which it can have happened.
local function is_after(s, us)
  return us ~= '' and s.scale == 'T' and s.v ~= '' and us < less(s.v, s.resolution)
end

local evidence = tag .. 'evidence'
local way_cache = {}

local function read_way(account, origin)
  if role_of(account).own and origin == account then
    return 'own'
  end
  local pair = redis.call('HGET', evidence, account .. US .. origin) or redis.call('HGET', evidence, account .. US .. '*')
  local ms, since, resumed = string.match(pair or '', '^lag|(%d+)|?(%d*)|?(%d*)$')
  if ms then
    return {ms = tonumber(ms), since = tonumber(since) or math.huge, resumed = tonumber(resumed), text = pair}
  end
  return pair or nil
end

-- How the source comes to know of such sales without saying so: 'own', 'never', the time it takes, or nil.
local function way_to(account, origin)
  local name = account .. US .. origin
  if way_cache[name] == nil then
    way_cache[name] = read_way(account, origin) or false
  end
  return way_cache[name] or nil
end

-- Whether a read shows what was told so long before it; what came in while the way was interrupted begins its way
-- when that is over.
local function has_arrived(told, s, way)
  return told + way.ms <= math.min(s.read_at, way.since)
    or (way.resumed ~= nil and math.max(told, way.resumed) + way.ms <= s.read_at)
end

local function has_come(part, s, way, line)
  if way == 'own' then
    return part.at < s.read_at or is_after(s, part.us)
  end
  -- The hub's own sales are on their way only once somebody has confirmed to have them.
  local told = part.told or (line.origin ~= '' and part.at)
  return told and has_arrived(math.max(told, s.reset_at), s, way)
end

-- Where the hub chose the place, the source may have taken the units elsewhere: then all of its places must have come.
local function witnesses(state, line, s)
  if line.placed then
    return {s}
  end
  local found = {}
  for _, other in pairs(state.sources) do
    if other.account == s.account and other.status == 'K' then
      found[#found + 1] = other
    end
  end
  return #found > 0 and found or {s}
end

local function units_come(list, sources, way, line)
  local units = 0
  for _, part in ipairs(list) do
    local come = true
    for _, s in ipairs(sources) do
      come = come and has_come(part, s, way, line)
    end
    units = units + (come and part.n or 0)
  end
  return units
end

local function pending_by_time(state, line, s)
  local way = way_to(s.account, line.origin)
  if not way or way == 'never' then
    return line.q
  end
  local sources = witnesses(state, line, s)
  local taken, given = units_come(line.takes, sources, way, line), units_come(line.gives, sources, way, line)
  return math.max(0, (line.q - given) - math.max(0, taken - given))
end

local function is_counted(ack, s)
  if ack.at < s.reset_at then
    return false
  end
  return (ack.v ~= '' and ack.scale == s.scale and s.v ~= '' and ack.v <= less(s.v, s.resolution))
    or ack.at < s.read_at
end

-- The sources of the account of `s`, by place; of several at one place the first, and at the place of `s` itself.
-- With them the places of the line that the account counts.
local function witnesses_at(state, line, s)
  local by_place, places = {}, {}
  for _, other in pairs(state.sources) do
    local known = by_place[other.place]
    if other.account == s.account and (not known or other.field < known.field) then
      by_place[other.place] = other
    end
  end
  by_place[s.place] = s
  for place in pairs(line.places) do
    if by_place[place] then
      places[#places + 1] = place
    end
  end
  table.sort(places)
  return by_place, places
end

-- An acknowledgement counts once the level of the place that it names contains it; without a place, once all do.
local function has_counted(state, line, ack, s, by_place, places)
  if ack.place ~= '' then
    return is_counted(ack, by_place[ack.place] or s)
  end
  for _, place in ipairs(places) do
    for _, witness in ipairs(witnesses(state, line, by_place[place])) do
      if not is_counted(ack, witness) then
        return false
      end
    end
  end
  return #places > 0
end

-- Of the cancelled units, those that other accounts have answered for.
local function answered_elsewhere(line, account, by_place)
  local units = 0
  for _, ack in ipairs(line.acks) do
    if ack.account ~= account and not by_place[ack.place] and (ack.x or ack.n < 0) then
      units = units + math.abs(ack.n)
    end
  end
  return units
end

-- What one account's acknowledgements leave owed at one of its places. They belong together: units that were let go
-- at one place may have been taken at another.
local function pending_by_acks(state, line, s)
  local by_place, places = witnesses_at(state, line, s)
  local inside, unplaced, processed = {}, 0, 0
  for _, ack in ipairs(line.acks) do
    if ack.account == s.account and has_counted(state, line, ack, s, by_place, places) then
      if ack.x or ack.n < 0 then
        processed = processed + math.abs(ack.n)
      end
      if not ack.x and ack.place == '' then
        unplaced = unplaced + ack.n
      elseif not ack.x and by_place[ack.place] then
        inside[ack.place] = (inside[ack.place] or 0) + ack.n
      end
    end
  end
  local owed = -math.max(0, unplaced)
  for place, units in pairs(inside) do
    inside[place] = math.max(0, units)
    owed = owed - inside[place]
  end
  for _, place in ipairs(places) do
    owed = owed + line.places[place]
  end
  local cancelled = math.max(0, sum(line.gives) - answered_elsewhere(line, s.account, by_place))
  owed = math.max(0, owed - math.min(cancelled, processed))
  for _, place in ipairs(places) do
    local here = math.min(owed, math.max(0, line.places[place] - (inside[place] or 0)))
    if place == s.place then
      return here
    end
    owed = owed - here
  end
  return owed
end

-- Of items whose numbers are added, an order of the account's own lowers only the one that it sold.
local function is_of_another_item(state, line, s)
  return line.order and line.item ~= s.item and string.find(line.order, s.account .. US, 1, true) == 1
    and decision_on(s.account, state.sku, s.place) == 'sum'
end

-- Units of the line at the source's place that its level already contains, or will never contain.
local function included_of(state, line, s)
  local here = line.places[s.place] or 0
  if is_of_another_item(state, line, s) then
    return here
  end
  local owed = math.min(here, pending_by_time(state, line, s))
  if role_of(s.account).ref and #line.acks > 0 then
    owed = math.min(owed, pending_by_acks(state, line, s))
  end
  return here - owed
end

local function evaluate(state, line, s)
  local before = line.inc[s.field] or 0
  local after = included_of(state, line, s)
  if after ~= before then
    s.included = s.included + after - before
    line.inc[s.field] = after ~= 0 and after or nil
    keep_source(state, s)
  end
end

-- Whether nothing that was acknowledged is still on its way into a level.
local function is_quiet(state, line)
  if #line.acks == 0 then
    return true
  end
  for place in pairs(line.places) do
    for _, s in ipairs(authorities_at(state, place)) do
      local by_place, places = witnesses_at(state, line, s)
      for _, ack in ipairs(line.acks) do
        if ack.account == s.account and not has_counted(state, line, ack, s, by_place, places) then
          return false
        end
      end
    end
  end
  return true
end

-- Whether every authority of its places contains the whole line.
local function is_included_by_all(state, line)
  for place, units in pairs(line.places) do
    local sources = authorities_at(state, place)
    if units > 0 and #sources == 0 then
      return false
    end
    for _, s in ipairs(sources) do
      if (line.inc[s.field] or 0) < units then
        return false
      end
    end
  end
  return true
end

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
-- merchant wants to sell from, then the fullest.
local function choose(state, units, origin)
  local order = {}
  local own = origin ~= '' and own_places(state, origin) or {}
  local has_own = next(own) ~= nil
  for _, cell in ipairs(cells_of(state)) do
    if not has_own or own[cell.place] then
      order[#order + 1] = {place = cell.place, free = cell.base - cell.held,
        rank = general().places[cell.place] or math.huge}
    end
  end
  if #order == 0 then
    return {{place = '', n = units}}
  end
  table.sort(order, function(a, b)
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
