-- A part of a hold: what is bought of it, while the rest is given back in the same step.

-- The lines of the hold that a wanted one means: those at its location, or the only one of the SKU.
local function lines_meant(hold, wanted)
  local all, here = {}, {}
  for _, line in ipairs(hold.lines) do
    if line.sku == wanted.sku then
      all[#all + 1] = line
      here[#here + 1] = line.location == wanted.location and line or nil
    end
  end
  return (#here == 0 and wanted.location == '' and #all == 1) and all or here
end

-- How many units of each line are bought, or nil and what cannot be. What an order has bought already stays bought.
local function bought_of(hold, lines)
  local bought = {}
  for _, wanted in ipairs(lines) do
    local left, there = wanted.quantity, 0
    for _, line in ipairs(lines_meant(hold, wanted)) do
      local units = math.min(left, line.quantity - (bought[line] or 0))
      bought[line] = (bought[line] or 0) + units
      left, there = left - units, there + line.quantity
    end
    if left > 0 then
      return nil, {sku = wanted.sku, location = wanted.location, held = there}
    end
  end
  return bought
end

-- Makes a live hold smaller: what is left of a line is held as before, the rest is anybody's again.
local function shorten(hold, line, units, cause)
  local state = load_answer(line.sku)
  local rest = {sku = line.sku, quantity = line.quantity - units, location = line.location, limits = line.limits}
  redis.call('ZREM', sku_holds(line.sku), member_of(hold, line))
  set_aside(state, line, -rest.quantity)
  note(state, hold, line.location, 'held:' .. text(line.quantity), units > 0 and 'held:' .. text(units) or 'released',
    cause)
  count_line(hold, rest, -1)
  line.quantity = units
  if units > 0 then
    redis.call('ZADD', sku_holds(line.sku), text(hold.seq), member_of(hold, line))
  end
  hold.returned = hold.returned or {}
  table.insert(hold.returned, {sku = rest.sku, quantity = rest.quantity, location = rest.location})
end

-- Leaves in the hold what is bought. One that is over holds nothing that could be given back.
local function keep_bought(hold, bought, cause)
  local kept = {}
  for _, line in ipairs(hold.lines) do
    local units = line.sold and line.quantity or bought[line] or 0
    if units < line.quantity and hold.status == 'held' then
      shorten(hold, line, units, cause)
    end
    line.quantity = units
    kept[#kept + 1] = units > 0 and line or nil
  end
  hold.lines = kept
end
