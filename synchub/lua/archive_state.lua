-- How far a merchant's ledger and decisions have come, and how far they are archived.
-- KEYS head archived ledger decisions
-- ARGV ledger_name decisions_name

local function ends(stream)
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  return {first and first[1] or '0-0', last and last[1] or '0-0'}
end

return {redis.call('HGET', head, 'epoch') or '', redis.call('HMGET', archived, ledger_name, decisions_name),
  ends(ledger), ends(decisions)}
