-- What one call knows: roles, maps, and every source of the SKUs it touches.

local US = '\31' -- joins identifiers; none of them can contain it
local DAY_MS = 86400000
local DELTAS_MAX = 32
local PARKED_PER_ITEM_MAX = 256
local ROW = 16

local stored_head = redis.call('HMGET', head, 'epoch', 'seq', 'feed_seq', 'clock')
local seq = tonumber(stored_head[2] or '0')
local feed_seq = tonumber(stored_head[3] or '0')
local now = math.max(tonumber(stored_head[4] or '0'), tonumber(now_ms)) -- the merchant's clock never steps back

local function text(number)
  return string.format('%.0f', number)
end

local role_cache = {}

local function role_of(account)
  local role = role_cache[account]
  if not role then
    local stored = redis.call('HGET', roles, account) or 'C|0|0|p|p|0'
    local kind, rank, max_age, items, places, fetches = string.match(stored, '^(%a)|(%d+)|(%d+)|(%a)|(%a)|([01])$')
    role = {kind = kind, rank = tonumber(rank), max_age = tonumber(max_age), own_items = items == 's',
      own_places = places == 'm', fetches = fetches == '1',
      watermark = tonumber(redis.call('HGET', watermarks, account) or '0')}
    role_cache[account] = role
  end
  return role
end

local sku_cache = {}

local function sku_of(account, item)
  local name = account .. US .. item
  if sku_cache[name] == nil then
    local mapped = redis.call('HGET', items_prefix .. account, item)
    sku_cache[name] = mapped or (role_of(account).own_items and item) or false
  end
  return sku_cache[name]
end

local place_cache = {}

local function place_of(account, location)
  local name = account .. US .. location
  if place_cache[name] == nil then
    local mapped = redis.call('HGET', locations, name)
    place_cache[name] = mapped or (role_of(account).own_places and location) or false
  end
  return place_cache[name]
end

-- A source is kept as one packed list; its account, item and place are in the name of its field.
local function read_source(field, packed)
  local account, item, place = string.match(field, '^s\31([^\31]*)\31([^\31]*)\31(.*)$')
  local stored = cmsgpack.unpack(packed)
  local s = {field = field, account = account, item = item, place = place, status = stored[1], level = stored[2],
    scale = stored[3], v = stored[4], resolution = stored[5], read_at = stored[6], evidence = stored[7],
    pushed_at = stored[8], behind = stored[9], deltas = {}, folded_v = stored[11], folded_at = stored[12]}
  for i, delta in ipairs(stored[10]) do
    s.deltas[i] = {v = delta[1], at = delta[2], amount = delta[3]}
  end
  return s
end

local function write_source(s)
  local deltas = {}
  for i, delta in ipairs(s.deltas) do
    deltas[i] = {delta.v, delta.at, delta.amount}
  end
  return cmsgpack.pack({s.status, s.level, s.scale, s.v, s.resolution, s.read_at, s.evidence, s.pushed_at, s.behind,
    deltas, s.folded_v, s.folded_at})
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
  return #s.deltas == 0 and effect or effect .. '+' .. write_deltas(s.deltas)
end

local loaded = {}

local function load_sku(sku)
  local state = loaded[sku]
  if state then
    return state
  end
  state = {sku = sku, sources = {}, changed = {}, removed = {}, ver = 0, seq = 0, ats = 0, known = 0, gone = 0, cat = 'A',
    backorder = '0', substitutes = '', incoming = '', cells = '', by = '', degraded = 0}
  local fields = redis.call('HGETALL', sku_prefix .. sku)
  for i = 1, #fields, 2 do
    local field, value = fields[i], fields[i + 1]
    if field == 'answer' then
      local ver, at, ats, known, gone, cat, backorder, degraded, by, cells =
        string.match(value, '^(%d+)|(%d+)|(-?%d+)|([01])|([01])|(%a)|([01])|([01])|([^|]*)|(.*)$')
      state.ver, state.seq, state.ats = tonumber(ver), tonumber(at), tonumber(ats)
      state.known, state.gone, state.degraded = tonumber(known), tonumber(gone), tonumber(degraded)
      state.cat, state.backorder, state.by, state.cells = cat, backorder, by, cells
    elseif field == 'substitutes' or field == 'incoming' then
      state[field] = value
    else
      state.sources[field] = read_source(field, value)
    end
  end
  loaded[sku] = state
  return state
end

-- What read_answers.lua returns and feed entries carry; synchub/stock/rules.py reads it.
local function answer_text(state)
  return table.concat({text(state.ver), text(state.seq), text(state.ats), state.known, state.gone, state.cat,
    state.backorder, state.degraded, state.by, state.cells}, '|')
end

local function source_of(state, row, place)
  local field = 's' .. US .. row.account .. US .. row.item .. US .. place
  local s = state.sources[field]
  if not s then
    s = {field = field, account = row.account, item = row.item, place = place, status = 'U', level = 0, scale = '',
      v = '', resolution = 0, read_at = 0, evidence = 0, pushed_at = 0, behind = false, deltas = {}, folded_v = '',
      folded_at = 0, new = true}
  end
  return s
end
