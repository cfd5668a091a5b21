-- What platforms tell of units that they have set aside for orders: a fact about a source.

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

local function finish_ack(state, line, row, place, n, is_dropped)
  evaluate_everywhere(state, line)
  return record(state, row, {field = 'ack', place = place, from = '', to = text(n), ref = line.id,
    more = is_dropped and {'dropped', '1'} or nil})
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
  return 'applied', finish_ack(state, line, row, place, n, row.status == 'X')
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
