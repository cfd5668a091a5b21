-- Sales go along when an item becomes another SKU, a pack or a kit.

-- The same events in another unit; their sum is rounded once, and not each of them.
local function scaled(list, units, before, round)
  local moved, sum_before, sum_after = {}, 0, 0
  for i, part in ipairs(list) do
    sum_before = sum_before + part.n
    local upto = round(sum_before * units / before)
    moved[i] = {n = upto - sum_after, us = part.us, at = part.at, told = part.told}
    sum_after = upto
  end
  return moved
end

local function sales_of(row, sku)
  local found = {}
  for _, set in ipairs({open_lines(sku), past_lines(sku)}) do
    for _, id in ipairs(redis.call('ZRANGE', set, 0, LINES_AT_ONCE - 1)) do
      local line = load_line(id)
      if line and line.order and line.item == row.item and account_of(line.order) == row.account then
        found[#found + 1] = line
      end
    end
  end
  return found
end

local function stems_of(line)
  local stems = {}
  for i, name in ipairs(line.names) do
    stems[i] = string.sub(name, 1, #name - #line.sku)
  end
  return stems
end

-- Acknowledgements of other accounts speak of their own items: they go along only with a sale that stays one SKU.
local function acks_for(row, sale, part, is_renamed)
  local acks = {}
  for _, ack in ipairs(sale.acks) do
    if ack.account == row.account then
      local moved = {}
      for name, value in pairs(ack) do
        moved[name] = value
      end
      moved.n = math.floor(ack.n * part.units / sale.units)
      acks[#acks + 1] = moved
    elseif is_renamed or part.sku == sale.sku then
      acks[#acks + 1] = ack
    end
  end
  return acks
end

local function take_out(row, line, units, stays)
  local state = load_sku(line.sku)
  local sale = {id = line.id, sku = line.sku, units = units, stems = stems_of(line), origin = line.origin, status = line.status,
    order = line.order, target = line.target, scale = line.scale, v = line.v, final = line.final, placed = line.placed,
    hold = line.hold, at = line.at, takes = line.takes, gives = line.gives, places = {}, acks = line.acks}
  for place, n in pairs(line.places) do
    sale.places[place] = n -- before its units are dropped
  end
  local sold, place, counts = line.q - sum(line.gives), next(line.places) or '', line.q > 0
  drop_units(state, line)
  for _, name in ipairs(line.names) do
    redis.call('HDEL', names, name)
    if order_in(name) then
      redis.call('SREM', order_in(name), line.id)
    end
  end
  redis.call('HDEL', lines, line.id)
  line_cache[line.id] = false
  if counts and not stays then
    record(state, row, {field = 'sale', place = place, from = text(sold), to = '0', ref = line.id,
      more = {'moved', '1'}})
  end
  return sale
end

local function places_for(state, sale, part, line)
  if not sale.placed then
    return line.q > 0 and choose(state, line.q, sale.origin) or {}
  end
  local list = {}
  for place, n in pairs(sale.places) do
    list[#list + 1] = {place = place, n = n}
  end
  table.sort(list, function(a, b) return a.place < b.place end)
  for i, moved in ipairs(scaled(list, part.units, sale.units, math.ceil)) do
    list[i].n = moved.n
  end
  return list
end

local function bring_in(row, sale, part, is_renamed)
  local state, id = load_sku(part.sku), 'o' .. US .. sale.order .. US .. part.sku
  local known = load_line(id)
  if known and known.order then
    return
  end
  local line = new_line(id, part.sku, sale.status)
  line.origin, line.order, line.item, line.hold, line.at = sale.origin, sale.order, row.item, sale.hold, sale.at
  line.scale, line.v, line.final, line.placed = sale.scale, sale.v, sale.final, sale.placed
  line.target = math.ceil(sale.target * part.units / sale.units)
  line.takes = scaled(sale.takes, part.units, sale.units, math.ceil)
  line.gives = scaled(sale.gives, part.units, sale.units, math.floor)
  line.q, line.acks = sum(line.takes), acks_for(row, sale, part, is_renamed)
  local told = {group = string.match(sale.order, '^[^\31]*\31(.*)$')}
  for _, stem in ipairs(sale.stems) do
    claim_name(state, line, stem .. part.sku, told)
  end
  for _, at_place in ipairs(places_for(state, sale, part, line)) do
    put(state, line, at_place.place, at_place.n)
  end
  retire_later(line, tonumber(settle_memory_ms))
  evaluate_everywhere(state, line)
  if line.q > 0 then
    record(state, row, {field = 'sale', place = next(line.places) or '', from = '0',
      to = text(line.q - sum(line.gives)), ref = line.id, more = {'moved_from', sale.id}})
  end
end

local function has_sku(parts, sku)
  for _, part in ipairs(parts) do
    if part.sku == sku then
      return true
    end
  end
  return false
end

-- Makes the item's sales what they are by its new map.
local function move_sales(row, before, after)
  local sales, by_order = {}, {}
  for _, part in ipairs(before) do
    for _, line in ipairs(sales_of(row, part.sku)) do
      local order = line.order
      local sale = take_out(row, line, part.units, has_sku(after, part.sku))
      if not by_order[order] then
        by_order[order] = sale
        sales[#sales + 1] = sale
      end
    end
  end
  for _, sale in ipairs(sales) do
    for _, part in ipairs(after) do
      bring_in(row, sale, part, #before == 1 and #after == 1)
    end
  end
end
