-- Gives the merchant's history a new name, unless another process has already done so; returns the head.
--
-- Compare-and-set on the old name: of many processes that notice the same loss, one renames and all agree.
-- With an empty old name it names a history that has none yet.
--
-- KEYS head
-- ARGV epoch_expected epoch_new
local stored = redis.call('HMGET', head, 'epoch', 'seq', 'feed_seq')
if (stored[1] or '') == epoch_expected then
  redis.call('HSET', head, 'epoch', epoch_new)
  stored[1] = epoch_new
end
return stored
