-- Reports on items or places that nobody has mapped yet.

local PARKED_PER_ITEM_MAX = 256
local parked = tag .. 'parked'

local function wins(row, other)
  if row.status == 'U' or other.status == 'U' then
    return other.status == 'U' -- no number replaces none
  end
  if row.scale ~= '' and row.scale == other.scale and row.version ~= other.version then
    return row.version > other.version
  end
  if row.scale ~= '' and row.scale == other.scale then
    return offer({status = row.status, level = row.number, deltas = {}})
      < offer({status = other.status, level = other.number, deltas = {}})
  end
  return row.at > other.at
end

local function park(row)
  local member = row.account .. US .. row.item
  local key = parked .. ':' .. member
  local counts_each = row.kind == 'D' or row.kind == 'A'
  local field = 'L' .. US .. row.location
  if counts_each then
    field = row.kind .. US .. row.location .. US .. row.op
  elseif row.kind == 'O' then
    field = 'O' .. US .. row.group
  end
  local waiting = redis.call('HGET', key, field)
  if not redis.call('ZSCORE', parked, member) then
    if redis.call('ZCARD', parked) >= tonumber(parked_max) then
      return 'parked_full', 0
    end
    redis.call('ZADD', parked, text(row.at), member)
  elseif not waiting and redis.call('HLEN', key) >= PARKED_PER_ITEM_MAX then
    return 'parked_full', 0
  end
  if not waiting or (not counts_each and wins(row, read_row(cmsgpack.unpack(waiting), 1))) then
    redis.call('HSET', key, field, cmsgpack.pack(row.fields or {unpack(ARGV, row.start, row.start + ROW - 1)}))
  end
  if row.kind ~= 'R' then -- what a fetch has brought is not fetched again
    fetch_now(row)
  end
  return 'parked', 0
end

local function report(row)
  if row.kind == 'O' or row.kind == 'A' then
    if not is_mapped(row) then
      return park(row)
    end
    return (row.kind == 'O' and order or ack)(row)
  end
  local sku, place = sku_of(row.account, row.item), place_of(row.account, row.location)
  if not sku and parts_of(row.account, row.item) then
    return 'kit_level', 0
  end
  if not sku or not place or is_contested(load_sku(sku), row, place) then
    return park(row)
  end
  if row.kind == 'D' then
    return delta(row, sku, place)
  end
  return level(row, sku, place)
end

local function waits_for_decision(row)
  local sku = row.kind ~= 'O' and row.kind ~= 'A' and sku_of(row.account, row.item)
  return sku and is_contested(load_sku(sku), row, place_of(row.account, row.location))
end

local function release(account, item)
  local key = parked .. ':' .. account .. US .. item
  local fields = redis.call('HGETALL', key)
  local rows = {}
  for i = 1, #fields, 2 do
    local waiting = cmsgpack.unpack(fields[i + 1])
    local row = read_row(waiting, 1)
    row.fields = waiting
    if parts_of(account, item) and (row.location == '' or place_of(account, row.location)) then
      row.field = fields[i]
      rows[#rows + 1] = row
    end
  end
  table.sort(rows, function(a, b)
    if a.at ~= b.at then
      return a.at < b.at
    end
    return a.field < b.field
  end)
  for _, row in ipairs(rows) do
    if not waits_for_decision(row) then
      report(row)
      redis.call('HDEL', key, row.field)
    end
  end
  if redis.call('EXISTS', key) == 0 then
    redis.call('ZREM', parked, account .. US .. item)
  end
end
