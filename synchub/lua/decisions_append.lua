-- Appends decisions under consecutive numbers, so that a reader sees whether one is missing.
-- KEYS decisions
-- ARGV decisions_max ... rows

local NAMES = {'id', 'at', 'kind', 'agent', 'buyer', 'session', 'sku', 'quantity', 'state', 'available', 'seen_seq',
  'ver', 'checksum', 'outcome', 'reason', 'policy'}

local newest = redis.call('XREVRANGE', decisions, '+', '-', 'COUNT', 1)[1]
local number = newest and tonumber(string.match(newest[1], '^%d+')) or 0
for start = rest_from, #ARGV - 1, #NAMES do
  number = number + 1
  local fields = {}
  for i, name in ipairs(NAMES) do
    fields[2 * i - 1] = name
    fields[2 * i] = ARGV[start + i]
  end
  redis.call('XADD', decisions, 'MAXLEN', '~', decisions_max, string.format('%.0f-0', number), unpack(fields))
end
return number
