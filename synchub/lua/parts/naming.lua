-- Which sale an order or an acknowledgement means, whatever names it comes under.

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
  state.joined = state.joined or {}
  table.insert(state.joined, other.id .. RS .. line.id)
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
