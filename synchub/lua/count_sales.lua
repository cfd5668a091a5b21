-- Counts open sales on the next SKUs in byte order, and those of them that have been open for longer than they should.
--
-- Returns both numbers and the SKU to go on from; an empty one says that there are no more.
-- KEYS head skus
-- ARGV tag from older_than_ms looked_max
-- FLAGS no-writes

local clock = tonumber(redis.call('HGET', head, 'clock') or '0')
local latest = string.format('%.0f', clock - tonumber(older_than_ms))
local open, overdue = 0, 0
local names = redis.call('ZRANGE', skus, from == '' and '-' or '[' .. from, '+', 'BYLEX', 'LIMIT', 0, looked_max + 1)
for i, sku in ipairs(names) do
  if i > tonumber(looked_max) then
    return {open, overdue, sku}
  end
  open = open + redis.call('ZCARD', tag .. 'open:' .. sku)
  overdue = overdue + redis.call('ZCOUNT', tag .. 'open:' .. sku, '-inf', latest)
end
return {open, overdue, ''}
