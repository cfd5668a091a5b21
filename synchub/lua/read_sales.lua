-- Reads open sales, SKU by SKU in byte order and the oldest of a SKU first: what each is called, how old it is, and
-- how many of its units each source's level does not contain yet.
--
-- Returns the merchant's clock, one JSON text per sale, and the SKU and place among its sales to go on from; an empty
-- SKU says that there are no more. At most `looked_max` SKUs are looked at, so a page may be short and not the last.
-- KEYS head skus
-- ARGV tag from skipped older_than_ms looked_max limit
-- FLAGS no-writes

local US = '\31'
local clock = tonumber(redis.call('HGET', head, 'clock') or '0')
local latest = string.format('%.0f', clock - tonumber(older_than_ms))

local function counts(account)
  return string.sub(redis.call('HGET', tag .. 'roles', account) or 'C', 1, 1) == 'A'
end

-- The sources whose levels are the stock of this SKU, by their places.
local function authorities(sku)
  local found = {}
  for _, field in ipairs(redis.call('HKEYS', tag .. 'sku:' .. sku)) do
    local account, item, place = string.match(field, '^s\31([^\31]*)\31([^\31]*)\31(.*)$')
    if account and counts(account) then
      found[#found + 1] = {field = field, account = account, item = item, place = place}
    end
  end
  table.sort(found, function(a, b) return a.field < b.field end)
  return found
end

local function lacks(line, sources)
  local missing = {}
  for _, s in ipairs(sources) do
    local pending = (line.places[s.place] or 0) - (line.inc[s.field] or 0)
    if pending > 0 then
      missing[#missing + 1] = {account = s.account, item = s.item, place = s.place, pending = pending}
    end
  end
  return missing
end

local function described(line, sources)
  local given = 0
  for _, part in ipairs(line.gives) do
    given = given + part.n
  end
  return cjson.encode({id = line.id, sku = line.sku, origin = line.origin, names = line.names, at = line.at,
    units = line.q - given, places = line.places, pending = lacks(line, sources), hold = line.hold or ''})
end

local sales, skip = {}, tonumber(skipped)
local names = redis.call('ZRANGE', skus, from == '' and '-' or '[' .. from, '+', 'BYLEX', 'LIMIT', 0, looked_max + 1)
for i, sku in ipairs(names) do
  if i > tonumber(looked_max) then
    return {clock, sales, sku, 0}
  end
  local first = sku == from and skip or 0
  local room = tonumber(limit) - #sales
  local ids = redis.call('ZRANGE', tag .. 'open:' .. sku, '-inf', latest, 'BYSCORE', 'LIMIT', first, room + 1)
  local sources = #ids > 0 and authorities(sku)
  for n, id in ipairs(ids) do
    if n > room then
      return {clock, sales, sku, first + room}
    end
    local packed = redis.call('HGET', tag .. 'lines', id)
    if packed then
      sales[#sales + 1] = described(cmsgpack.unpack(packed), sources)
    end
  end
end
return {clock, sales, '', 0}
