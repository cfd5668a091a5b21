-- What platforms tell of their orders: a line is a state, an acknowledgement a fact about a source.

local function fields_of(group)
  return string.match(group, '^([^\31]*)\31?([^\31]*)$')
end

local function own_name(row, sku)
  return 'o' .. US .. row.account .. US .. row.group .. US .. sku
end

-- Every name that the row gives its sale, the surest first. An acknowledgement names an order of another platform.
local function names_of(row, sku)
  local found = {}
  local order, part = fields_of(row.group)
  if row.kind == 'O' then
    found[1] = own_name(row, sku)
  end
  if part ~= '' then
    found[#found + 1] = 'l' .. US .. row.group .. US .. sku
  end
  for reference in string.gmatch(row.extra, '[^\30]+') do
    found[#found + 1] = 'h' .. US .. reference .. US .. sku
    found[#found + 1] = 'r' .. US .. reference .. US .. sku
  end
  if order ~= '' then
    found[#found + 1] = 'c' .. US .. order .. US .. sku
  end
  return found
end

local function account_of(order)
  return string.match(order, '^[^\31]*')
end

-- Whether all that is known of a line is that it is another one of the same order.
local function is_of_another_line(row, line)
  local order, part = fields_of(row.group)
  for _, name in ipairs(line.names) do
    local other_order, other_part = string.match(name, '^l\31([^\31]*)\31([^\31]*)\31')
    if other_part and other_order == order and part ~= '' and other_part ~= part then
      return true
    end
  end
  return false
end

-- Whether the name shows that the row speaks of this line, and not of another one that has the name as well.
local function belongs(row, line, name)
  local kind = string.sub(name, 1, 1)
  if not line.order then
    return kind == 'o' or kind == 'l' or not is_of_another_line(row, line)
  end
  if kind == 'o' then
    return true
  end
  if row.kind == 'A' then
    local order, part = fields_of(row.group)
    local other_order, other_part = string.match(line.order, '^[^\31]*\31([^\31]*)\31([^\31]*)$')
    return part == '' or order ~= other_order or part == other_part
  end
  -- Another platform's copy of the order; by its number alone, an order is nobody's copy.
  return (kind == 'h' or kind == 'r') and account_of(line.order) ~= row.account
end

-- Whether what is only spoken of has the number of another order than the line's.
local function contradicts(stub, line)
  local order = line.order and string.match(line.order, '^[^\31]*\31([^\31]*)')
  for _, name in ipairs(order and stub.names or {}) do
    local other = string.match(name, '^[cl]\31([^\31]*)')
    if other and other ~= order then
      return true
    end
  end
  return false
end

-- Names may lead to several: what was sold before what was only spoken of.
local function line_of(row, found)
  local stub
  for _, name in ipairs(found) do
    local line = line_named(name)
    if line and belongs(row, line, name) then
      local kind = string.sub(name, 1, 1)
      -- By an order's number alone a stub is not yet the order that has it: two platforms use the same numbers.
      local is_surer = (kind == 'h' or kind == 'r') and stub and not contradicts(stub, line)
      if (line.order or line.q > 0) and (not stub or is_surer) then
        return line
      end
      stub = stub or line
    end
  end
  return stub
end

-- An order that names a live hold is its commit, for the SKU that it names.
local function commit_named_hold(row, sku)
  for reference in string.gmatch(row.extra, '[^\30]+') do
    local hold = read_hold(reference)
    if is_live(hold) then
      sell_sku(hold, sku, row.cause, fields_of(row.group)) -- nobody's yet: the order takes it in by the hold's name
    elseif hold and hold.status ~= 'committed' and hold.status ~= 'confirming' then
      row.cause = row.cause .. ' dead_hold:' .. reference
    end
  end
end

local function is_old(row)
  local connected = role_of(row.account).connected
  return row.evidence > 0 and connected > 0 and row.evidence < connected - tonumber(settle_memory_ms)
end

-- What the row says against what is known of the line: 'newer', 'duplicate' or 'superseded'.
local function compare(line, row, target)
  if row.version == '' or line.v == '' or row.scale ~= line.scale then
    return line.final and row.version == '' and 'superseded' or 'newer'
  end
  if row.version ~= line.v then
    return row.version > line.v and 'newer' or 'superseded'
  end
  if line.final then
    return row.status == 'X' and 'duplicate' or 'superseded'
  end
  if row.status == 'X' or target > line.target then
    return 'newer'
  end
  return target == line.target and 'duplicate' or 'superseded'
end

-- Two lines that a common name shows to be one sale: what was known of the other is now known of this one.
local function unite(state, line, other)
  local is_stub = other.q == 0 and not other.order
  local is_unclaimed = other.origin == '' and not other.order and other.q > 0
  if not (is_stub or is_unclaimed) then
    return
  end
  drop_units(state, other)
  for _, name in ipairs(other.names) do
    redis.call('HSET', names, name, line.id)
    line.names[#line.names + 1] = name
  end
  for _, ack in ipairs(other.acks) do
    line.acks[#line.acks + 1] = ack
  end
  line.hold = line.hold or other.hold
  redis.call('HDEL', lines, other.id)
  line_cache[other.id] = false
  follow_acks(state, line)
end

-- The order's number is no name when two of its lines, or two platforms, use it for one SKU.
local function claim_name(state, line, name, row)
  note_order(line, name)
  local id = redis.call('HGET', names, name)
  if id == line.id then
    return
  end
  local other = id and load_line(id)
  local kind = string.sub(name, 1, 1)
  local is_another = other and is_of_another_line(row, other)
  if (kind == 'c' or kind == 'l') and (is_another or (other and other.order and line.order)) then
    redis.call('HSET', names, name, '')
  elseif other and not is_another then
    unite(state, line, other)
    give_name(line, name)
  elseif not id then
    give_name(line, name)
  end
end

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
  return 'applied', record(state, row, {field = 'sale', place = place, from = text(told), to = text(target), ref = line.id})
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

-- Where an account speaks of one place only, it means that one.
local function only_place(state, account)
  local only = ''
  for _, s in pairs(state.sources) do
    if s.account == account and s.place ~= only then
      if only ~= '' then
        return ''
      end
      only = s.place
    end
  end
  return only
end

-- Acts of a source that it may take back as a whole; one taken back before it was told never counts.
local BATCH_KEPT_MS = 60 * DAY_MS

local function batch_of(row)
  return tag .. 'batch:' .. row.account .. US .. row.batch
end

local function is_taken_back(row)
  return row.batch ~= '' and redis.call('SISMEMBER', batch_of(row), '') == 1
end

local function remember_batch(row, member)
  if row.batch ~= '' then
    redis.call('SADD', batch_of(row), member)
    redis.call('PEXPIRE', batch_of(row), text(BATCH_KEPT_MS))
  end
end

local function add_ack(line, row, n, place, is_dropped)
  if #line.acks < ACKS_MAX then
    line.acks[#line.acks + 1] = {account = row.account, n = n, scale = row.scale,
      v = shifted(row.version, row.resolution), at = row.at, place = place, x = is_dropped, batch = row.batch}
  end
end

local function finish_ack(state, line, row, place, n)
  evaluate_everywhere(state, line)
  return record(state, row, {field = 'ack', place = place, from = '', to = text(n), ref = line.id})
end

local function ack_of(row, sku, units)
  if is_taken_back(row) then
    return 'superseded', 0
  end
  local state = load_sku(sku)
  local found = names_of(row, sku)
  if #found == 0 then
    return 'nameless', 0
  end
  local line = line_of(row, found)
  if not line then
    line = new_line(found[1], sku, 'x')
    retire_later(line, tonumber(settle_memory_ms))
  end
  for _, name in ipairs(found) do
    claim_name(state, line, name, row)
  end
  local place = row.location ~= '' and place_of(row.account, row.location) or only_place(state, row.account)
  local n = row.number * units
  add_ack(line, row, n, place, row.status == 'X' or nil)
  remember_batch(row, line.id)
  if n > 0 and row.status ~= 'X' then
    learn_from_ack(state, line, row)
  end
  follow_acks(state, line)
  return 'applied', finish_ack(state, line, row, place, n)
end

-- Units that the account has acknowledged and not given back: all of the line's, or those of one act.
local function acknowledged(line, row)
  local units = 0
  for _, ack in ipairs(line.acks) do
    if ack.account == row.account and not ack.x and (row.batch == '' or ack.batch == row.batch) then
      units = units + ack.n
    end
  end
  return math.max(0, units)
end

-- The source has taken back all of an act, or of an order: it counts none of those units as taken any more.
local function take_back(row)
  local members = redis.call('SMEMBERS', row.batch ~= '' and batch_of(row) or tag .. 'order:' .. fields_of(row.group))
  remember_batch(row, '')
  table.sort(members)
  local last = 0
  for _, id in ipairs(members) do
    local line = id ~= '' and load_line(id)
    if line then
      local n = acknowledged(line, row)
      add_ack(line, row, -n, '')
      if row.batch == '' then
        add_ack(line, row, sum(line.gives), '', true)
      end
      last = finish_ack(load_sku(line.sku), line, row, '', -n)
    end
  end
  return last > 0 and 'applied' or 'unchanged', last
end

local function ack(row)
  row.batch = row.happened
  if is_repeated_by_id(row) then
    return 'duplicate', 0
  end
  if row.status == 'N' then
    return take_back(row)
  end
  return (row.item == '' and each_line or each_part)(row, ack_of)
end
