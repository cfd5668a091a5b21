-- Counting requests against a rate. The key holds one number: the µs at which everything asked so far would be used
-- up at that rate. A request moves it one interval on, and is refused where that would be more than a burst ahead.

local buckets = {}
local asked_us -- the server's present: one for all requests of a step

-- Returns 0, or in how many µs there is room for the request; a refused one counts for nothing. What is counted is
-- stored by write_tokens, once for all requests that one step counts.
local function take_token(key, interval, burst)
  local bucket = buckets[key]
  if not bucket then
    local time = redis.call('TIME')
    asked_us = asked_us or tonumber(time[1]) * 1000000 + tonumber(time[2])
    bucket = {used_up = math.max(tonumber(redis.call('GET', key) or '0'), asked_us)}
    buckets[key] = bucket
  end
  local room = interval * burst
  if bucket.used_up > asked_us + room then
    -- The server's clock was set back, or the burst made smaller: that must lock nobody out for longer.
    bucket.used_up, bucket.is_changed = asked_us + room, true
    return interval
  end
  local wait = bucket.used_up + interval - asked_us - room
  if wait > 0 then
    return wait
  end
  bucket.used_up, bucket.is_changed = bucket.used_up + interval, true
  return 0
end

local function write_tokens()
  for key, bucket in pairs(buckets) do
    if bucket.is_changed then
      redis.call('SET', key, string.format('%.0f', bucket.used_up), 'PX', math.ceil((bucket.used_up - asked_us) / 1000))
    end
  end
end
