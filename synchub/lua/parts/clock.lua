-- What every step begins with: the merchant's head, and its present.

local US, RS = '\31', '\30' -- join identifiers and lists of them; no identifier can contain them
local DAY_MS = 86400000
local SLEW = 0.001
local UNCONFIRMED_MAX_MS = 1000

local ledger, feed = tag .. 'ledger', tag .. 'feed'

local function text(number)
  return string.format('%d', number)
end

local stored_head = redis.call('HMGET', head, 'epoch', 'seq', 'feed_seq', 'clock', 'clock_at', 'granted_us', 'policy',
  'lag_step_ms', 'lag_grace_ms', 'run', 'frozen', 'doubt')
if run ~= '' and stored_head[10] and stored_head[10] ~= run then
  return redis.error_reply('FROZEN the store has been started anew and its history is not yet proven')
end
local epoch = stored_head[1] or epoch_if_new
local seq = tonumber(stored_head[2] or '0')
local feed_seq = tonumber(stored_head[3] or '0')
-- After a loss: until when nothing new is granted, and from when on evidence counts as fresh.
local frozen_until, doubted_until = tonumber(stored_head[11] or '0'), tonumber(stored_head[12] or '0')
local lag_step, lag_grace = tonumber(stored_head[8] or '0'), tonumber(stored_head[9] or '0')

-- Callers propose the time, and the server's clock guards it: it never steps back, and between two steps of this
-- script it moves as far as the server's has, give or take a thousandth to draw nearer to what callers say. So no
-- caller with a wrong clock ends a hold or keeps one alive; and of the server's own jump forward at most a second
-- counts that callers do not confirm.
local server_time = redis.call('TIME')
local server_ms = tonumber(server_time[1]) * 1000 + math.floor(tonumber(server_time[2]) / 1000)
local now
do
  local clock, proposed = tonumber(stored_head[4] or '0'), tonumber(now_ms)
  if clock_kind == 'proposed' then
    now = math.max(clock, proposed)
  elseif clock == 0 then
    now = math.max(proposed, server_ms)
  else
    local passed = math.max(0, server_ms - tonumber(stored_head[5] or '0'))
    local least = clock + math.floor(math.min(passed, UNCONFIRMED_MAX_MS) * (1 - SLEW))
    now = math.max(least, math.min(proposed, clock + math.floor(passed * (1 + SLEW))))
  end
end

-- The microsecond of a grant: later than the one before, within the merchant's present where it can be.
local granted_us = stored_head[6] or '0'

local function next_grant_us()
  local last = tonumber(granted_us)
  granted_us = text(math.max(last + 1, now * 1000 + tonumber(server_time[2]) % 1000))
  return granted_us
end

-- The clock is measured from where it last moved, so that steps of less than a millisecond add up.
local function measured_from()
  local at = tonumber(stored_head[5] or '0')
  return now == tonumber(stored_head[4] or '0') and server_ms >= at and at or server_ms
end

local function write_head()
  redis.call('HSET', head, 'epoch', epoch, 'seq', text(seq), 'feed_seq', text(feed_seq), 'clock', text(now),
    'clock_at', text(measured_from()), 'granted_us', granted_us)
  if run ~= '' and not stored_head[10] then
    redis.call('HSET', head, 'run', run, 'run_seq', stored_head[2] or '0')
  end
end

local function is_frozen()
  return now < frozen_until
end
