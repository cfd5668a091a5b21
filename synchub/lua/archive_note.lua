-- Notes how far a log is archived and trims what the store need not keep, in one step that nobody can come between.
--
-- A process that was stopped for a while may come back after the lease has gone to another one, after the history was
-- renamed, or after the store has lost its end and grown another. Each is noticed here, and then nothing is trimmed.
--
-- KEYS lease archived head stream
-- ARGV owner log note epoch seq digest kept
-- FLAGS allow-oom
if redis.call('GET', lease) ~= owner then
  return 'not_yours'
end
if (redis.call('HGET', head, 'epoch') or '') ~= epoch then
  return 'renamed'
end
local archived_last = redis.call('XRANGE', stream, seq .. '-0', seq .. '-0')[1]
if archived_last and redis.sha1hex(table.concat(archived_last[2], '\31')) ~= digest then
  return 'differs'
end
redis.call('HSET', archived, log, note)
if not archived_last then
  return 'not_there'
end
local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local from_kept = tonumber(string.match(newest[1], '^%d+')) - tonumber(kept) + 1
local from = math.min(tonumber(seq), from_kept) -- the last archived entry stays: the next one is checked to follow it
if from > 0 then
  redis.call('XTRIM', stream, 'MINID', '~', string.format('%.0f-0', from))
end
return 'noted'
