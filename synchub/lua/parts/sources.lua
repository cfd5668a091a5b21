-- What each source of a SKU has said.

local DELTAS_MAX = 32

-- A source is kept as one packed list; its account, item and place are in the name of its field.
local function read_source(field, packed)
  local account, item, place = string.match(field, '^s\31([^\31]*)\31([^\31]*)\31(.*)$')
  local stored = cmsgpack.unpack(packed)
  local s = {field = field, account = account, item = item, place = place, status = stored[1], level = stored[2],
    scale = stored[3], v = stored[4], resolution = stored[5], read_at = stored[6], evidence = stored[7],
    pushed_at = stored[8], behind = stored[9], deltas = {}, folded_v = stored[11], folded_at = stored[12],
    included = stored[13], joined = stored[14], reset_at = stored[15], lower_v = stored[16], lower_at = stored[17]}
  for i, delta in ipairs(stored[10]) do
    s.deltas[i] = {v = delta[1], at = delta[2], amount = delta[3], since = delta[4]}
  end
  return s
end

local function write_source(s)
  local deltas = {}
  for i, delta in ipairs(s.deltas) do
    deltas[i] = {delta.v, delta.at, delta.amount, delta.since}
  end
  return cmsgpack.pack({s.status, s.level, s.scale, s.v, s.resolution, s.read_at, s.evidence, s.pushed_at, s.behind,
    deltas, s.folded_v, s.folded_at, s.included, s.joined, s.reset_at, s.lower_v, s.lower_at})
end

local function write_deltas(deltas)
  local parts = {}
  for i, delta in ipairs(deltas) do
    parts[i] = delta.v .. ',' .. text(delta.at) .. ',' .. text(delta.amount)
  end
  return table.concat(parts, ';')
end

local function effect_text(s)
  local effect = s.status .. text(s.level)
  if s.included ~= 0 then
    effect = effect .. 'i' .. text(s.included)
  end
  return #s.deltas == 0 and effect or effect .. '+' .. write_deltas(s.deltas)
end

-- Everything about a SKU; a state of which only the answer was known keeps what was done to it.
local function load_sku(sku)
  local state = loaded[sku]
  if state and state.is_whole then
    return state
  end
  local is_new = not state
  state = state or new_state(sku)
  loaded[sku] = state
  local fields = redis.call('HGETALL', sku_prefix .. sku)
  for i = 1, #fields, 2 do
    local field, value = fields[i], fields[i + 1]
    local kind = string.sub(field, 1, 2)
    if kind == 's\31' then
      state.sources[field] = read_source(field, value)
    elseif kind == 'o\31' then
      state.open[string.sub(field, 3)] = tonumber(value)
    elseif kind == 'h\31' then
      state.located[string.sub(field, 3)] = tonumber(value)
    elseif field == 'answer' and is_new then
      read_answer(state, value)
    elseif field == 'substitutes' or field == 'incoming' then
      state[field] = value
    elseif field == 'aside' then
      read_aside(state, value)
    end
  end
  state.is_whole = true
  return state
end

local function source_of(state, row, place)
  local field = 's' .. US .. row.account .. US .. row.item .. US .. place
  local s = state.sources[field]
  if not s then
    s = {field = field, account = row.account, item = row.item, place = place, status = 'U', level = 0, scale = '',
      v = '', resolution = 0, read_at = 0, evidence = 0, pushed_at = 0, behind = false, deltas = {}, folded_v = '',
      folded_at = 0, included = 0, joined = false, reset_at = 0, lower_v = '', lower_at = 0, new = true}
  end
  return s
end

local function keep_source(state, s)
  s.new = nil
  state.sources[s.field] = s
  state.changed[s.field] = s
  state.removed[s.field] = nil
  has_changed(state)
end

local function forget_source(state, s)
  state.sources[s.field], state.changed[s.field], state.removed[s.field] = nil, nil, true
  has_changed(state)
end

-- Whether a person has to say first what this source is: a second item of its account at the place or, where the
-- merchant wants to be asked, one more source of the SKU.
local function is_contested(state, row, place)
  if role_of(row.account).kind ~= 'A' or state.sources['s' .. US .. row.account .. US .. row.item .. US .. place] then
    return false
  end
  local is_second, is_more = false, false
  for _, s in pairs(state.sources) do
    if s.status ~= 'R' and s.status ~= 'C' and role_of(s.account).kind == 'A' then
      is_second = is_second or (s.account == row.account and s.place == place)
      is_more = true
    end
  end
  if not is_second and not (is_more and general().asks_first) then
    return false
  end
  local decision = decision_on(row.account, state.sku, place)
  return not decision or (is_second and decision == 'yes')
end

local function authorities_at(state, place)
  local found = {}
  for _, s in pairs(state.sources) do
    if s.place == place and role_of(s.account).kind == 'A' then
      found[#found + 1] = s
    end
  end
  table.sort(found, function(a, b) return a.field < b.field end)
  return found
end
