-- Brings back what the archive tells of some SKUs and the store has lost: sales, and the last word of each source.
--
-- What is known stays as it is: of a sale any one of its names is enough, and it gets the names that it lacks. So it
-- can be told as often as anybody likes, and nothing is counted twice. Sales come before the sources of their SKU.
-- Each SKU is one argument, JSON with `sku`, `sales`, `sources` and `catalogue`; synchub/recovery/rules.py writes it.
--
-- Returns the head, and for each SKU: sales brought back, sales known, sources brought back, sources known or of an
-- account that is not, and its number with what is held.
--
-- PARTS clock states accounts sources writing answers versions fetching lines inclusion sales
-- KEYS head
-- ARGV tag run now_ms clock_kind epoch_if_new settle_memory_ms remember_ms feed_max cause ... skus
-- FLAGS allow-oom

local function because(told, account, item)
  return {account = account, item = item, version = told.v, scale = told.scale, resolution = told.resolution,
    cause = cause .. ':' .. text(told.seq), at = now}
end

-- Whether the line is another sale that has the name as well: an order of the same number, a hold of the same order.
local function is_another(line, told, kind)
  if kind == 'o' then
    return false
  end
  if line.order and told.order ~= '' and line.order ~= told.order then
    return kind == 'c' or kind == 'l' or string.match(line.order, '^[^\31]*') == told.origin
  end
  return kind == 'c' and line.hold ~= nil and told.hold ~= '' and line.hold ~= told.hold
end

local function known_by(told)
  for _, name in ipairs(told.names) do
    local line, kind = line_named(name), string.sub(name, 1, 1)
    if line and not is_another(line, told, kind) then
      return line
    end
    if line and line.order and told.order ~= '' and (kind == 'c' or kind == 'l') then
      redis.call('HSET', names, name, '') -- two platforms' orders have it: it is nobody's
    end
  end
  return nil
end

-- So that whatever is told under these names later leads to the sale.
local function name_all(line, told)
  for _, name in ipairs(told.names) do
    give_name(line, name)
    note_order(line, name)
  end
end

local function acks_in(told)
  local acks = {}
  for i, ack in ipairs(told.acks) do
    acks[i] = {account = ack.account, n = ack.n, scale = ack.scale, v = shifted(ack.v, ack.resolution), at = ack.at,
      place = ack.place, x = ack.dropped or nil, batch = ''}
  end
  return acks
end

local function bring_back_sale(told, sku)
  local line = known_by(told)
  if line then
    name_all(line, told)
    save_line(line)
    return false
  end
  local state = load_sku(sku)
  line = new_line(told.id, sku, 'o')
  line.origin, line.item, line.scale, line.v = told.origin, told.item, told.scale, told.v
  line.order = told.order ~= '' and told.order or nil
  line.hold = told.hold ~= '' and told.hold or nil
  line.takes, line.gives, line.at, line.acks = told.takes, told.gives, told.at, acks_in(told)
  line.q = sum(line.takes)
  line.target = line.q - sum(line.gives)
  line.final = line.target == 0
  name_all(line, told)
  local units = 0
  for _, at_place in ipairs(told.places) do
    put(state, line, at_place.place, at_place.n)
    units = units + at_place.n
  end
  put(state, line, '', line.q - units) -- where these lie nobody has said
  retire_later(line, math.max(0, told.at + tonumber(settle_memory_ms) - now))
  follow_acks(state, line)
  evaluate_everywhere(state, line)
  record(state, because(told, told.origin, told.item), {field = 'sale', place = next(line.places) or '', from = '0',
    to = text(line.target), ref = line.id})
  return true
end

local function read_deltas(packed)
  local deltas = {}
  for v, at, amount in string.gmatch(packed, '(%d*),(%d+),(-?%d+)') do
    deltas[#deltas + 1] = {v = v, at = tonumber(at), amount = tonumber(amount)}
  end
  return deltas
end

-- Nothing from before counts as fresh: what came after it may be lost.
local function doubt(at)
  if at >= doubted_until then
    doubted_until = at + 1
    redis.call('HSET', head, 'doubt', text(doubted_until))
  end
end

local function bring_back_source(told, sku)
  if not redis.call('HGET', tag .. 'roles', told.account) then
    return false
  end
  local state = load_sku(sku)
  local row = because(told, told.account, told.item)
  row.kind = 'L'
  local s = source_of(state, row, told.place)
  local status, level, rest = string.match(told.said, '^(%a)(-?%d+)(.*)$')
  if not s.new or not status then
    return false
  end
  s.status, s.level, s.deltas = status, tonumber(level), read_deltas(string.match(rest, '%+(.*)$') or '')
  s.scale, s.v, s.resolution = told.scale, told.v, told.resolution
  s.read_at, s.pushed_at, s.evidence = told.read_at, told.at, math.max(told.read_at, told.at)
  doubt(s.evidence)
  keep_source(state, s)
  absorb(state, s)
  record(state, row, {field = 'level', place = s.place, from = '', to = effect_text(s)})
  fetch_now(row)
  return true
end

local function describe(state)
  return state.cat .. state.backorder .. '|' .. state.substitutes .. '|' .. state.incoming
end

local function bring_back_catalogue(told)
  local cat, backorder, substitutes, incoming = string.match(told.catalogue, '^(%a)([01])|([^|]*)|(.*)$')
  local state = cat and load_sku(told.sku)
  if not cat or describe(state) ~= 'A0||' or told.catalogue == 'A0||' then
    return
  end
  state.cat, state.backorder, state.substitutes, state.incoming = cat, backorder, substitutes, incoming
  state.described, state.answer_forced = true, true
  record(state, {account = '', item = '', version = '', cause = cause .. ':0', at = now},
    {field = 'catalogue', place = '', from = 'A0||', to = told.catalogue})
end

local function bring_back(told)
  local counts = {0, 0, 0, 0}
  for _, sale in ipairs(told.sales) do
    local at = bring_back_sale(sale, told.sku) and 1 or 2
    counts[at] = counts[at] + 1
  end
  bring_back_catalogue(told)
  for _, source in ipairs(told.sources) do
    local at = bring_back_source(source, told.sku) and 3 or 4
    counts[at] = counts[at] + 1
  end
  local state = load_sku(told.sku)
  counts[5] = text(state.ats + state.held)
  return counts
end

local results = {}
for at = rest_from + 1, #ARGV do
  results[#results + 1] = bring_back(cjson.decode(ARGV[at]))
end
publish_all()
write_states()
write_head()
return {epoch, text(seq), results}
