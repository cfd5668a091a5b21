-- Where SKUs have gone that nobody reports any more: what they are called now, empty where nothing is known of it.
-- KEYS head
-- ARGV tag ... skus
-- FLAGS no-writes
local HOPS_MAX = 8

local function is_gone(sku)
  local packed = redis.call('HGET', tag .. 'sku:' .. sku, 'answer')
  return packed and string.match(packed, '^%d+|%d+|%-?%d+|%d+|[01]|1|') ~= nil
end

local function present_name(sku)
  local found = ''
  for _ = 1, HOPS_MAX do
    local later = redis.call('HGET', tag .. 'aliases', found == '' and sku or found)
    if not later then
      return found
    end
    found = later
    if not is_gone(found) then
      return found
    end
  end
  return found
end

local names = {}
for i = rest_from + 1, #ARGV do
  names[#names + 1] = is_gone(ARGV[i]) and present_name(ARGV[i]) or ''
end
return names
