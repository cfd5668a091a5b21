-- Counting requests against a rate. The key holds one number: the µs at which everything asked so far would be used
-- up at that rate. A request moves it one interval on, and is refused where that would be more than a burst ahead.

-- Returns 0, or in how many µs there is room for the request; a refused one counts for nothing.
local function take_token(key, interval, burst)
  local room = interval * burst
  local time = redis.call('TIME')
  local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
  local used_up = math.max(tonumber(redis.call('GET', key) or '0'), now_us)
  local wait = 0
  if used_up > now_us + room then
    -- The server's clock was set back, or the burst made smaller: that must lock nobody out for longer.
    used_up, wait = now_us + room, interval
  elseif used_up + interval > now_us + room then
    return used_up + interval - now_us - room
  else
    used_up = used_up + interval
  end
  redis.call('SET', key, string.format('%.0f', used_up), 'PX', math.ceil((used_up - now_us) / 1000))
  return wait
end
