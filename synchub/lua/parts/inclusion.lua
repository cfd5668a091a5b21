-- What of a sale a source's level contains: by what it has acknowledged, by its own orders, or by the time it takes.

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
