-- Takes, renews or returns the right to call a platform for one account; returns 1 when the asker has it.
-- KEYS lease
-- ARGV owner ttl_ms
-- FLAGS allow-oom
local holder = redis.call('GET', lease)
if holder and holder ~= owner then
  return 0
end
if tonumber(ttl_ms) > 0 then
  redis.call('SET', lease, owner, 'PX', ttl_ms)
else
  redis.call('DEL', lease)
end
return 1
