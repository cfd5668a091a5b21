-- The registry of sales: one line per sale and SKU, known by many names.

local ACKS_MAX = 64 -- kept of one line; further ones are counted into the last

local lines, names = tag .. 'lines', tag .. 'names'
local line_cache = {}

local function load_line(id)
  if line_cache[id] == nil then
    local packed = redis.call('HGET', lines, id)
    line_cache[id] = packed and cmsgpack.unpack(packed) or false
  end
  return line_cache[id] or nil
end

local function save_line(line)
  line_cache[line.id] = line
  redis.call('HSET', lines, line.id, cmsgpack.pack(line))
end

local function line_named(name)
  local id = redis.call('HGET', names, name)
  return id and load_line(id) or nil
end

local function give_name(line, name)
  if redis.call('HSETNX', names, name, line.id) == 1 then
    line.names[#line.names + 1] = name
  end
end

-- All lines that belong to an order, by the number that it has on its platform.
local function order_in(name)
  local order = string.match(name, '^c\31([^\31]*)\31')
  return order and tag .. 'order:' .. order
end

local function note_order(line, name)
  if order_in(name) then
    redis.call('SADD', order_in(name), line.id)
  end
end

local function new_line(name, sku, status)
  -- A name can have passed from one line to another: then it is nobody's id any more.
  local id = load_line(name) and name .. US .. text(seq) or name
  return {id = id, sku = sku, origin = '', status = status, q = 0, places = {}, takes = {}, gives = {}, acks = {},
    inc = {}, names = {}, scale = '', v = '', final = false, at = now, parts = 1}
end

-- Units by place as the ledger has them, where they lie at several.
local function places_text(list)
  local parts = {}
  for i, at_place in ipairs(list) do
    parts[i] = at_place.place .. US .. text(at_place.n)
  end
  return table.concat(parts, RS)
end

local function sum(list)
  local units = 0
  for _, part in ipairs(list) do
    units = units + part.n
  end
  return units
end
