-- Ids counted before, by account and day.

local ROW = 16

local today = math.floor(now / DAY_MS)

local function seen(row)
  local op = row.account .. US .. row.op
  for day = today, today - tonumber(seen_days), -1 do
    if redis.call('SISMEMBER', tag .. 'seen:' .. text(day), op) == 1 then
      return true
    end
  end
  return false
end

local function remember(row)
  local key = tag .. 'seen:' .. text(today)
  redis.call('SADD', key, row.account .. US .. row.op)
  redis.call('PEXPIRE', key, text((tonumber(seen_days) + 2) * DAY_MS), 'NX')
end

-- Reads the row that starts at `start` of a list of strings.
local function read_row(list, start)
  local at = math.min(tonumber(list[start + 9]), now) -- nothing can have happened after the merchant's present
  local version, resolution = list[start + 7], tonumber(list[start + 8])
  return {start = start, kind = list[start], account = list[start + 1], item = list[start + 2],
    location = list[start + 3], status = list[start + 4], number = tonumber(list[start + 5]), scale = list[start + 6],
    version = version, resolution = resolution, version_less_resolution = less(version, resolution),
    at = at, evidence = math.min(tonumber(list[start + 10]), at), op = list[start + 11],
    cause = list[start + 12], sku = list[start + 13], happened = list[start + 13], group = list[start + 14],
    extra = list[start + 15]}
end
