-- Writes down how an endpoint is doing, and what came of an attempt, if the writer still has the merchant's lease.
-- Returns 1, 0 when somebody else has the lease, or -1 when there is no such lane any more.
-- KEYS lease lane attempts
-- ARGV owner born_ms attempts_max attempt ... fields
-- FLAGS allow-oom
if redis.call('GET', lease) ~= owner then
  return 0
end
if redis.call('HGET', lane, 'born') ~= born_ms then
  return -1
end
redis.call('PERSIST', lane)
for i = rest_from + 1, #ARGV, 2 do
  redis.call('HSET', lane, ARGV[i], ARGV[i + 1])
end
if attempt ~= '' then
  redis.call('XADD', attempts, 'MAXLEN', attempts_max, '*', 'a', attempt)
end
return 1
