-- Who an account is, and what its items and locations are called by the merchant.

local role_cache = {}

local function role_of(account)
  local role = role_cache[account]
  if not role then
    local stored = redis.call('HGET', tag .. 'roles', account) or 'C|0|0|p|p|0'
    local kind, rank, max_age, items, places, fetches, own, ref, connected =
      string.match(stored, '^(%a)|(%d+)|(%d+)|(%a)|(%a)|([01])|?([01]?)|?([01]?)|?(%d*)$')
    role = {kind = kind, rank = tonumber(rank), max_age = tonumber(max_age), own_items = items == 's',
      own_places = places == 'm', fetches = fetches == '1', own = own == '1', ref = ref == '1',
      connected = tonumber(connected) or 0, watermark = tonumber(redis.call('HGET', tag .. 'watermarks', account) or '0')}
    role_cache[account] = role
  end
  return role
end

local item_cache = {}

-- What a map says: a SKU, or for packs and kits several with their units.
local function parts_in(mapped)
  if not string.find(mapped, US, 1, true) then
    return {{sku = mapped, units = 1}}
  end
  local parts = {}
  for sku, units in string.gmatch(mapped, '([^\31\30]+)\31(%d+)') do
    parts[#parts + 1] = {sku = sku, units = tonumber(units)}
  end
  return parts
end

-- What one unit of an item is; nil when not mapped.
local function parts_of(account, item)
  local name = account .. US .. item
  if item_cache[name] == nil then
    local mapped = redis.call('HGET', tag .. 'items:' .. account, item)
    item_cache[name] = (mapped or role_of(account).own_items) and parts_in(mapped or item) or false
  end
  return item_cache[name] or nil
end

-- The SKU that an item is one unit of: only such an item can carry a level.
local function sku_of(account, item)
  local parts = parts_of(account, item)
  return parts and #parts == 1 and parts[1].units == 1 and parts[1].sku or nil
end

local place_cache = {}

local function place_of(account, location)
  local name = account .. US .. location
  if place_cache[name] == nil then
    local mapped = redis.call('HGET', tag .. 'locations', name)
    place_cache[name] = mapped or (role_of(account).own_places and location) or false
  end
  return place_cache[name]
end

local decision_cache = {}

-- What a person has decided of an account's sources of a SKU at a place, or of all of them: 'sum' or 'same' for
-- several items, 'yes' for one more source; nil when nothing.
local function decision_on(account, sku, place)
  local name = account .. US .. sku .. US .. place
  if decision_cache[name] == nil then
    decision_cache[name] = redis.call('HGET', tag .. 'decided', name)
      or redis.call('HGET', tag .. 'decided', account .. US .. US)
  end
  return decision_cache[name] or nil
end

local general_cache

-- What the merchant has decided for all of its stock.
local function general()
  if not general_cache then
    local stored = redis.call('HMGET', head, 'takeover', 'places', 'fast_age_ms', 'slow_age_ms', 'asks_first',
      'destinations')
    general_cache = {trusts = stored[1] == 'trusting', places = {}, fast_age = tonumber(stored[3] or '0'),
      slow_age = tonumber(stored[4] or '0'), asks_first = stored[5] == '1', destinations = stored[6] or ''}
    local rank = 0
    for place in string.gmatch(stored[2] or '', '[^\30]+') do
      rank = rank + 1
      general_cache.places[place] = rank
    end
  end
  return general_cache
end

-- The places that are in front for a country, by their names; none where nothing is said of it.
local function places_near(country)
  local ranks, rank = {}, 0
  for entry in string.gmatch(country ~= '' and general().destinations or '', '[^\30]+') do
    local named, list = string.match(entry, '^([^\31]*)(.*)$')
    for place in string.gmatch(named == country and list or '', '[^\31]+') do
      rank = rank + 1
      ranks[place] = rank
    end
  end
  return ranks
end

local groups_cache

-- The places of which another one is the total: their names as keys, '*' for every place that is no total itself.
local function members_of(place)
  if not groups_cache then
    groups_cache = {}
    local stored = redis.call('HGETALL', tag .. 'groups')
    for i = 1, #stored, 2 do
      local members = {}
      for member in string.gmatch(stored[i + 1], '[^\30]+') do
        members[member] = true
      end
      groups_cache[stored[i]] = members
    end
  end
  return groups_cache[place]
end

-- Whether `place` is the total of places, of which `member` is one.
local function is_total_of(place, member)
  local members = members_of(place)
  return members ~= nil and (members[member] or (members['*'] and place ~= member and not members_of(member))) or false
end
