-- Looks a set up for its agent and lets it live on; only now and then this is a write.
-- Returns the revision, '0' where the agent has no such set, its mark, and how many SKUs there are.
-- KEYS about members owned
-- ARGV id agent now_ms life_ms
local found = redis.call('HMGET', about, 'agent', 'rev', 'mark')
if found[1] ~= agent then
  return {'0', '', 0}
end
if redis.call('PTTL', about) < tonumber(life_ms) * 0.9 then
  redis.call('PEXPIRE', about, life_ms)
  redis.call('PEXPIRE', members, life_ms)
  redis.call('ZADD', owned, tonumber(now_ms) + tonumber(life_ms), id)
  redis.call('PEXPIRE', owned, life_ms)
end
return {found[2], found[3] or '', redis.call('SCARD', members)}
