-- Interrupts the way of sales into a source's level, or lets it go on; 1 when that changes anything.
--
-- What was told before the interruption and read before it as well stays believed; the rest begins its way when
-- the interruption ends. One that follows within a day of another counts from the beginning of that one.
--
-- KEYS evidence
-- ARGV field any at_ms ends
local DAY_MS = 86400000
local ms, since, resumed = string.match(redis.call('HGET', evidence, field) or redis.call('HGET', evidence, any)
  or '', '^lag|(%d+)|?(%d*)|?(%d*)$')
local is_suspended = since ~= nil and since ~= '' and resumed == ''
if not ms or is_suspended ~= (ends == '1') then
  return 0
end
local text
if ends == '1' then
  text = 'lag|' .. ms .. '|' .. since .. '|' .. at_ms
elseif since ~= '' and tonumber(at_ms) - tonumber(resumed) < DAY_MS then
  text = 'lag|' .. ms .. '|' .. since
else
  text = 'lag|' .. ms .. '|' .. at_ms
end
redis.call('HSET', evidence, field, text)
return 1
