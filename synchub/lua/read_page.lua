-- Reads the stored answers of the next SKUs in byte order, for snapshots.
-- KEYS head watermarks skus
-- ARGV sku_prefix from upto count
-- FLAGS no-writes
local names = redis.call('ZRANGE', skus, from, upto, 'BYLEX', 'LIMIT', 0, count)
local answers = {}
for i, name in ipairs(names) do
  answers[i] = redis.call('HGET', sku_prefix .. name, 'answer')
end
return {redis.call('HMGET', head, 'epoch', 'seq', 'feed_seq'), redis.call('HGETALL', watermarks), answers, names}
