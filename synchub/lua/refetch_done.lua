-- Strikes fetched items off the list, except those that somebody has asked for again since.
-- KEYS due
-- ARGV started_ms ... items
-- FLAGS allow-oom
for i = rest_from + 1, #ARGV do
  local score = redis.call('ZSCORE', due, ARGV[i])
  if score and tonumber(score) <= tonumber(started_ms) then
    redis.call('ZREM', due, ARGV[i])
  end
end
return redis.call('ZCARD', due)
