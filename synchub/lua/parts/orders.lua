-- What platforms tell of their orders: a line of an order is a state.

-- Where new units of a line are taken from: as the row says, as was told before, or as the hub chooses.
-- Where only the total of several places is counted, what is sold at one of them is sold of the total.
local function counted_place(state, place)
  if #authorities_at(state, place) == 0 then
    for _, cell in ipairs(cells_of(state)) do
      if is_total_of(cell.place, place) then
        return cell.place
      end
    end
  end
  return place
end

local function places_of(state, line, row, units)
  if row.location ~= '' then
    return {{place = counted_place(state, place_of(row.account, row.location)), n = units}}
  end
  local told
  for place in pairs(line.placed and line.places or {}) do
    told = (not told or place < told) and place or told
  end
  return told and {{place = told, n = units}} or choose(state, units, row.account)
end

local function place_anew(state, line, row)
  local units = line.q
  for place, n in pairs(line.places) do
    put(state, line, place, -n)
  end
  for _, at_place in ipairs(places_of(state, line, row, units)) do
    put(state, line, at_place.place, at_place.n)
  end
end

-- Fewer units were ordered than the hub has sold: no source has heard of the others in any other way.
local function shrink(state, line, target)
  local places, left = {}, line.q - target
  for place in pairs(line.places) do
    places[#places + 1] = place
  end
  table.sort(places, function(a, b) return a > b end)
  for _, place in ipairs(places) do
    local n = math.min(left, line.places[place])
    put(state, line, place, -n)
    left = left - n
  end
  line.q, line.takes = target, target > 0 and {{n = target}} or {}
end

local function lies_elsewhere(line, own)
  for place in pairs(line.places) do
    if not own[place] then
      return next(own) ~= nil
    end
  end
  return false
end

-- The platform that took the order confirms what the hub has sold: from now on it is its order.
local function confirm_sale(state, line, row, target)
  line.origin = row.account
  if row.status ~= 'X' and #line.acks == 0 and target < line.q then
    shrink(state, line, target)
  end
  if row.location == '' and lies_elsewhere(line, own_places(state, row.account)) then
    place_anew(state, line, row)
  end
  for _, part in ipairs(line.takes) do
    part.told, part.us, part.at = row.at, row.happened, row.at
  end
end

local function first_order(state, line, row, target)
  if line.q > 0 then
    confirm_sale(state, line, row, target)
    return
  end
  line.origin = row.account
  if is_old(row) then
    line.status = 'h'
    retire_later(line, tonumber(settle_memory_ms))
  end
end

-- The platform's own level may be as old as its order and never move again: only a read can tell.
local function ask_for_levels(state, line)
  for place, units in pairs(line.places) do
    for _, s in ipairs(authorities_at(state, place)) do
      if (line.inc[s.field] or 0) < units and way_to(s.account, line.origin) == 'own' then
        fetch_later(s)
      end
    end
  end
end

-- What the ledger says of an order besides its units, so that the sale can be told again from it alone.
local function told_of_order(row, sku, line)
  local more, list = {}, {}
  local function tell(name, value)
    if value ~= '' then
      more[#more + 1], more[#more + 2] = name, value
    end
  end
  for place, units in pairs(line.places) do
    list[#list + 1] = {place = place, n = units}
  end
  table.sort(list, function(a, b) return a.place < b.place end)
  tell('order', line.id ~= own_name(row, sku) and row.group or '')
  tell('refs', row.extra)
  tell('us', row.happened)
  tell('places', #list > 1 and places_text(list) or '')
  return more
end

local function order_of(row, sku, target)
  commit_named_hold(row, sku)
  local state = load_sku(sku)
  local found = names_of(row, sku)
  local line = line_of(row, found) or new_line(found[1], sku, 'x')
  local is_first = not line.order
  if line.status == 's' or line.retired or (line.status == 'h' and not is_first) then
    return 'superseded', 0
  end
  if not is_first and account_of(line.order) ~= row.account then
    for _, name in ipairs(found) do
      give_name(line, name)
    end
    save_line(line)
    return 'unchanged', 0 -- a copy; only the platform that took the order moves its units
  end
  line.order, line.item = row.account .. US .. row.group, row.item
  for _, name in ipairs(found) do
    claim_name(state, line, name, row)
  end
  local verdict = is_first and 'newer' or compare(line, row, target)
  if verdict ~= 'newer' then
    evaluate_everywhere(state, line)
    return verdict, record(state, row, nil)
  end
  line.target, line.final = target, row.status == 'X'
  if row.version ~= '' then
    line.scale, line.v = row.scale, row.version
  end
  line.placed = line.placed or row.location ~= ''
  local told = line.q - sum(line.gives)
  if is_first then
    first_order(state, line, row, target)
  end
  if line.status == 'h' then
    evaluate_everywhere(state, line)
    return 'unchanged', 0
  end
  local before = line.q - sum(line.gives)
  if line.status == 'c' or (line.status == 'x' and target > 0) then
    line.status = 'o'
  end
  if target > before then
    take_units(state, line, {n = target - before, us = row.happened, at = row.at}, places_of(state, line, row, target - before))
  elseif target < before then
    line.gives[#line.gives + 1] = {n = before - target, us = row.happened, at = row.at}
  end
  if row.location ~= '' and line.q > 0 then
    place_anew(state, line, row)
  end
  follow_acks(state, line)
  evaluate_everywhere(state, line)
  ask_for_levels(state, line)
  if target == told then
    return 'unchanged', record(state, row, nil)
  end
  local place = next(line.places) or ''
  return 'applied', record(state, row, {field = 'sale', place = place, from = text(told), to = text(target), ref = line.id,
    more = told_of_order(row, sku, line)})
end

local function is_repeated_by_id(row)
  if row.version == '' or row.kind == 'A' then
    if seen(row) then
      return true
    end
    remember(row)
  end
  return false
end

local function each_part(row, verb)
  local outcome, last = 'unchanged', 0
  for _, part in ipairs(parts_of(row.account, row.item)) do
    local one, at = verb(row, part.sku, part.units)
    if at > 0 or outcome == 'unchanged' then
      outcome = one
    end
    last = math.max(last, at)
  end
  return outcome, last
end

-- Units of a SKU in one of what an order's line sells, as its platform counts.
local function units_in(line)
  for _, part in ipairs(line.order and parts_of(string.match(line.order, '^[^\31]*'), line.item) or {}) do
    if part.sku == line.sku then
      return part.units
    end
  end
  return 1
end

-- What names no item is of what the order's line sells.
local function each_line(row, verb)
  local outcome, last = 'nameless', 0
  local members = redis.call('SMEMBERS', tag .. 'order:' .. fields_of(row.group))
  table.sort(members)
  for _, id in ipairs(members) do
    local line = load_line(id)
    if line and line_named('l' .. US .. row.group .. US .. line.sku) == line then
      local one, at = verb(row, line.sku, units_in(line))
      outcome, last = one, math.max(last, at)
    end
  end
  return outcome, last
end

local function is_mapped(row)
  if row.kind == 'A' and row.status == 'N' then
    return true
  end
  if row.kind == 'A' and row.item == '' then
    return row.location == '' or place_of(row.account, row.location)
  end
  return parts_of(row.account, row.item) and (row.location == '' or place_of(row.account, row.location))
end

local function order(row)
  row.happened = row.happened ~= '' and string.format('%020.0f', tonumber(row.happened)) or ''
  if is_repeated_by_id(row) then
    return 'duplicate', 0
  end
  return each_part(row, function(_, sku, units)
    return order_of(row, sku, row.status == 'X' and 0 or row.number * units)
  end)
end
