-- What an item is: its SKU, whether it is sold, and when it is gone.

local aliases = tag .. 'aliases'

local function own_sources(state, account, item)
  local found = {}
  for field, s in pairs(state.sources) do
    if s.account == account and s.item == item then
      found[#found + 1] = field
    end
  end
  table.sort(found)
  return found
end

local function is_same(before, after)
  local same = #before == #after
  for i, part in ipairs(before) do
    same = same and part.sku == after[i].sku and part.units == after[i].units
  end
  return same
end

local function is_kit(parts)
  return #parts > 1 or parts[1].units > 1
end

-- What the item has reported is no longer the SKU's. One that nobody reports any more is gone under this name.
local function leave_sku(row, sku, after)
  local state = load_sku(sku)
  for _, field in ipairs(own_sources(state, row.account, row.item)) do
    local s = state.sources[field]
    forget_source(state, s)
    state.is_left, state.aside_changed = true, true
    record(state, row, {field = 'status', place = s.place, from = effect_text(s), to = '', ref = after})
  end
end

-- The last item of a SKU has become another one: who asks for the old name means the new. A name that is given to an
-- item is nobody's old name any more, so that names lead somewhere and never in a circle.
local function note_alias(sku, after)
  for _, part in ipairs(after) do
    redis.call('HDEL', aliases, part.sku)
  end
  local is_left = #after == 1 and after[1].units == 1 and after[1].sku ~= sku
  for _, s in pairs(load_sku(sku).sources) do
    is_left = is_left and s.status == 'R'
  end
  if is_left then
    redis.call('HSET', aliases, sku, after[1].sku)
  end
end

local function map_item(row)
  local before, after = parts_of(row.account, row.item), parts_in(row.sku)
  local is_by_person = row.number == 1
  if before and (is_same(before, after) or (is_kit(before) and not is_by_person)) then
    return
  end
  redis.call('HSET', tag .. 'items:' .. row.account, row.item, row.sku)
  item_cache[row.account .. US .. row.item] = nil
  if not before then
    return
  end
  for _, part in ipairs(before) do
    leave_sku(row, part.sku, #after == 1 and after[1].sku or nil)
    note_alias(part.sku, after)
  end
  move_sales(row, before, after)
  fetch_now(row)
end

local function remove_item(row, item)
  local sku = sku_of(row.account, item)
  local last = 0
  if sku then
    local state = load_sku(sku)
    for _, field in ipairs(own_sources(state, row.account, item)) do
      local s = state.sources[field]
      if s.status ~= 'R' then
        local before = effect_text(s)
        s.status, s.level, s.deltas = 'R', 0, {}
        keep_source(state, s)
        last = record(state, {account = row.account, item = item, version = '', cause = row.cause, at = row.at},
          {field = 'status', place = s.place, from = before, to = effect_text(s)})
      end
    end
  end
  if not role_of(row.account).own_items then
    redis.call('HDEL', tag .. 'items:' .. row.account, item)
    item_cache[row.account .. US .. item] = nil
  end
  return last
end

local function describe(state)
  return state.cat .. state.backorder .. '|' .. state.substitutes .. '|' .. state.incoming
end

-- Status, back-order and the rest of the catalogue; 0 when nothing differs.
local function catalogue_change(row, sku)
  local state = load_sku(sku)
  local before, sold_before = describe(state), state.cat .. state.backorder
  if row.status == 'A' or row.status == 'D' then
    state.cat = row.status
  end
  if row.extra ~= '' then
    local extra = cjson.decode(row.extra)
    if extra.backorder ~= nil then
      state.backorder = extra.backorder and '1' or '0'
    end
    state.substitutes = extra.substitutes or state.substitutes
    state.incoming = extra.incoming or state.incoming
  end
  local after = describe(state)
  if before == after then
    return 0
  end
  state.answer_forced = sold_before ~= state.cat .. state.backorder
  state.described = true
  return record(state, row, {field = 'catalogue', place = '', from = before, to = after})
end

local function catalogue(row)
  if row.op ~= '' then
    if seen(row) then
      return 'duplicate', 0
    end
    remember(row) -- what an item is has no version: a repeat would bring back what has changed since
  end
  local last = 0
  if row.item == '' then
    local key = tag .. 'group:' .. row.account .. ':' .. row.group
    local members = redis.call('SMEMBERS', key)
    table.sort(members)
    for _, item in ipairs(members) do
      last = math.max(last, row.status == 'R' and remove_item(row, item) or 0)
    end
    if row.status == 'R' then
      redis.call('DEL', key)
    end
    return last > 0 and 'applied' or 'unchanged', last
  end
  if row.group ~= '' then
    redis.call('SADD', tag .. 'group:' .. row.account .. ':' .. row.group, row.item)
  end
  if row.status == 'R' then
    last = remove_item(row, row.item)
    return last > 0 and 'applied' or 'unchanged', last
  end
  if row.sku ~= '' then
    map_item(row)
  end
  local sku = sku_of(row.account, row.item)
  if not parts_of(row.account, row.item) then
    return 'unchanged', 0
  end
  last = sku and catalogue_change(row, sku) or 0
  release(row.account, row.item)
  if last > 0 then
    return 'applied', last
  end
  return (row.sku ~= '' or row.status == '') and 'released' or 'unchanged', 0
end
