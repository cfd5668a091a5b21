-- Makes, changes or removes the record of a subscription, if it still is what the writer has read (`before`).
-- Returns 'written', 'moved', or the limit that is reached: 'agent', 'merchant', 'all'.
-- KEYS records counts news
-- ARGV id merchant agent before after agent_max merchant_max all_max
-- FLAGS allow-oom
local present = redis.call('HGET', records, id) or ''
if present ~= before then
  return 'moved'
end
local of_merchant, of_agent = 'm ' .. merchant, 'a ' .. agent
if before == '' then
  local function is_full(name, most)
    return tonumber(redis.call('HGET', counts, name) or '0') >= tonumber(most)
  end
  if is_full(of_agent, agent_max) then
    return 'agent'
  elseif is_full(of_merchant, merchant_max) then
    return 'merchant'
  elseif is_full('all', all_max) then
    return 'all'
  end
end
local change = (after ~= '' and 1 or 0) - (before ~= '' and 1 or 0)
if change ~= 0 then
  for _, name in ipairs({of_merchant, of_agent, 'all'}) do
    if redis.call('HINCRBY', counts, name, change) <= 0 then
      redis.call('HDEL', counts, name)
    end
  end
end
if after ~= '' then
  redis.call('HSET', records, id, after)
else
  redis.call('HDEL', records, id)
end
-- Never the same number twice, also for a merchant who had none in between.
redis.call('HSET', news, merchant, redis.call('HINCRBY', counts, 'changes', 1))
if redis.call('EXISTS', records) == 0 then
  redis.call('HDEL', news, merchant)
end
return 'written'
