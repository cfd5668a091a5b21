-- Returns the items that are to be fetched next: those that wait longest, and before them those that sell fast.
--
-- A fast seller counts as if it had waited for `lead_ms` longer, less for slower ones, so that nobody is overtaken for
-- more than that. Of a long list its oldest and its newest items are looked at.
-- KEYS due items
-- ARGV tag now_ms count looked_at lead_ms fast_a_day
-- FLAGS allow-oom
local DAY_MS = 86400000
local today = math.floor(tonumber(now_ms) / DAY_MS)

-- Movements of today and yesterday, as the apply script keeps them beside the SKU's answer.
local function pace_of(item)
  local sku = string.match(redis.call('HGET', items, item) or item, '^[^\31\30]*')
  local aside = redis.call('HGET', tag .. 'sku:' .. sku, 'aside') or ''
  local on, moved, before = string.match(aside, '^%d+|%d+|[01]|(%d+)|(%d+)|(%d+)|%d+$')
  if not on then
    return 0
  end
  return (tonumber(on) >= today - 1 and tonumber(moved) or 0) + (tonumber(on) == today and tonumber(before) or 0)
end

local found, known = {}, {}
local function look_at(list)
  for i = 1, #list, 2 do
    if not known[list[i]] then
      known[list[i]] = true
      local share = math.min(1, pace_of(list[i]) / tonumber(fast_a_day))
      found[#found + 1] = {item = list[i], at = tonumber(list[i + 1]) - share * tonumber(lead_ms)}
    end
  end
end

look_at(redis.call('ZRANGE', due, '-inf', now_ms, 'BYSCORE', 'LIMIT', 0, looked_at, 'WITHSCORES'))
look_at(redis.call('ZRANGE', due, now_ms, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, looked_at, 'WITHSCORES'))
table.sort(found, function(a, b)
  if a.at ~= b.at then
    return a.at < b.at
  end
  return a.item < b.item
end)
local chosen = {}
for i = 1, math.min(tonumber(count), #found) do
  chosen[i] = found[i].item
end
return chosen
