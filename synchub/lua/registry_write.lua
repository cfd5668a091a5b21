-- Writes or removes one record, if it is still what the caller has read, and tells every process.
-- Repeating a call whose answer was lost changes nothing and answers the same.
-- KEYS records changes
-- ARGV kind name before after records_max changes_max
local stored = redis.call('HGET', records, name) or ''
if stored == after then
  return 'written'
end
if stored ~= before then
  return 'moved'
end
if after == '' then
  redis.call('HDEL', records, name)
elseif before == '' and redis.call('HLEN', records) >= tonumber(records_max) then
  return 'full'
else
  redis.call('HSET', records, name, after)
end
redis.call('XADD', changes, 'MAXLEN', '~', changes_max, '*', 'kind', kind, 'name', name)
return 'written'
