-- Versions are twenty digits: compared as text, exact where a double is not.

-- A version moved by a resolution.
local function shifted(v, by)
  if v == '' or by == 0 then
    return v
  end
  local low = tonumber(string.sub(v, 11)) + by
  local high = tonumber(string.sub(v, 1, 10))
  while low < 0 do
    low, high = low + 10000000000, high - 1
  end
  while low >= 10000000000 do
    low, high = low - 10000000000, high + 1
  end
  return high < 0 and string.rep('0', 20) or string.format('%010.0f%010.0f', high, low)
end

local function less(v, resolution)
  return shifted(v, -resolution)
end
