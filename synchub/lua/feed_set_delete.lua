-- Deletes a set of SKUs, and tells every process that reads for its followers.
-- Returns whether the agent had such a set.
-- KEYS about members owned changes
-- ARGV id agent life_ms changes_max
if redis.call('HGET', about, 'agent') ~= agent then
  return 0
end
redis.call('DEL', about, members)
redis.call('ZREM', owned, id)
redis.call('XADD', changes, 'MAXLEN', '~', changes_max, '*', 'id', id, 'rev', 0)
redis.call('PEXPIRE', changes, life_ms)
return 1
