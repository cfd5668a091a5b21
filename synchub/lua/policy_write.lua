-- Makes an edited document the merchant's policies, if it was made from the present version.
--
-- Fields of the hash: `version` and `document`, the present ones; `d VERSION` a document; `h VERSION` its time,
-- author, fingerprint and operation; `o OPERATION` the version it made. The present version is the newest in this history, which is bounded.
-- The head carries what scripts compare and need, so that none of them reads a second key.
--
-- PARTS clock
-- KEYS head policies
-- ARGV tag run now_ms clock_kind epoch_if_new expected operation fingerprint author document lag_step_ms lag_grace_ms takeover places destinations fast_age_ms slow_age_ms asks_first history_max
-- FLAGS allow-oom

local version = tonumber(redis.call('HGET', policies, 'version') or '0')

local made = redis.call('HGET', policies, 'o ' .. operation)
if made then
  local note = redis.call('HGET', policies, 'h ' .. made)
  local outcome = string.match(note, '^%d+|[^|]*|([^|]*)|') == fingerprint and 'repeated' or 'mismatch'
  return {outcome, tonumber(made), version, note}
end
if tonumber(expected) ~= version then
  return {'moved', 0, version, ''}
end

version = version + 1
local note = text(now) .. '|' .. author .. '|' .. fingerprint .. '|' .. operation
redis.call('HSET', policies, 'version', text(version), 'document', document, 'd ' .. text(version), document,
  'h ' .. text(version), note, 'o ' .. operation, text(version))

local oldest = text(version - tonumber(history_max))
local forgotten = redis.call('HGET', policies, 'h ' .. oldest)
if forgotten then
  redis.call('HDEL', policies, 'd ' .. oldest, 'h ' .. oldest,
    'o ' .. string.match(forgotten, '^%d+|[^|]*|[^|]*|(.*)$'))
end

seq = seq + 1
redis.call('XADD', ledger, text(seq) .. '-0', 'sku', '', 'loc', '', 'acc', '', 'item', '', 'field', 'policy', 'from',
  text(version - 1), 'to', text(version), 'v', '', 'cause', 'policy:' .. author, 'at', text(now), 'ats', '')
local before = redis.call('HMGET', head, 'lag_step_ms', 'lag_grace_ms', 'takeover', 'fast_age_ms', 'slow_age_ms')
local differs = false
for i, after in ipairs({lag_step_ms, lag_grace_ms, takeover, fast_age_ms, slow_age_ms}) do
  differs = differs or after ~= (before[i] or (i == 3 and 'cautious' or '0'))
end
redis.call('HSET', head, 'policy', text(version), 'lag_step_ms', lag_step_ms, 'lag_grace_ms', lag_grace_ms, 'takeover',
  takeover, 'places', places, 'destinations', destinations, 'fast_age_ms', fast_age_ms, 'slow_age_ms', slow_age_ms, 'asks_first', asks_first)
-- What answers depend on has changed: every SKU is looked at, by the reaper.
if differs then
  redis.call('ZADD', tag .. 'due', text(now), 'a' .. US .. US)
end
write_head()
return {'written', version, version, note}
