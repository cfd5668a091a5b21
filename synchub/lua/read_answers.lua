-- Reads the stored answers of some SKUs together with the position they belong to.
-- KEYS head watermarks
-- ARGV sku_prefix ... skus
-- FLAGS no-writes
local answers = {}
for i = rest_from + 1, #ARGV do
  answers[#answers + 1] = redis.call('HGET', sku_prefix .. ARGV[i], 'answer')
end
return {redis.call('HMGET', head, 'epoch', 'seq', 'feed_seq'), redis.call('HGETALL', watermarks), answers}
