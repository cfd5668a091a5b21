-- Makes a set of SKUs that readers follow, or adds to one and removes from it, and tells every process.
-- What is there already, or is not, changes nothing: a repeat whose first answer was lost does no harm.
-- No SKU may be both added and removed.
-- Returns 'written' or why not ('unknown', 'many', 'large'), the revision, and how many SKUs there are.
-- KEYS about members owned changes
-- ARGV id agent is_new mark now_ms life_ms skus_max sets_max changes_max added ... skus
local owner = redis.call('HGET', about, 'agent')
if owner and owner ~= agent or not owner and is_new == '0' then
  return {'unknown', '0', 0}
end
if not owner then
  redis.call('ZREMRANGEBYSCORE', owned, '-inf', now_ms)
  if redis.call('ZCARD', owned) >= tonumber(sets_max) then
    return {'many', '0', 0}
  end
end

local wanted, unwanted = {}, {}
for i = 1, #ARGV - rest_from do
  local list = i <= tonumber(added) and wanted or unwanted
  list[#list + 1] = ARGV[rest_from + i]
end

local function present(skus)
  local found = 0
  if #skus > 0 then
    for _, is_there in ipairs(redis.call('SMISMEMBER', members, unpack(skus))) do
      found = found + is_there
    end
  end
  return found
end

local known, gone, size = present(wanted), present(unwanted), redis.call('SCARD', members)
if size - gone + #wanted - known > tonumber(skus_max) then
  return {'large', '0', size}
end
if gone > 0 then
  redis.call('SREM', members, unpack(unwanted))
end
if #wanted > known then
  redis.call('SADD', members, unpack(wanted))
end
if not owner or gone > 0 or #wanted > known then
  -- The mark tells this revision from another of the same number, after a loss of the store.
  redis.call('HSET', about, 'agent', agent, 'mark', mark)
  local rev = redis.call('HINCRBY', about, 'rev', 1)
  redis.call('XADD', changes, 'MAXLEN', '~', changes_max, '*', 'id', id, 'rev', rev)
  redis.call('PEXPIRE', changes, life_ms)
end
redis.call('PEXPIRE', about, life_ms)
redis.call('PEXPIRE', members, life_ms)
redis.call('ZADD', owned, tonumber(now_ms) + tonumber(life_ms), id)
redis.call('PEXPIRE', owned, life_ms)
return {'written', redis.call('HGET', about, 'rev'), redis.call('SCARD', members)}
