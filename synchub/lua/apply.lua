-- Decides what reports of sources do to the stock of one merchant, and tells it: one atomic step.
--
-- Its parts lie in parts/ and are read in the order named below.
-- docs/stock-model.md states the rules; tests/support/reference_model.py states them again without this code.
--
-- PARTS clock states accounts sources writing answers versions fetching repeats lines inclusion sales holds selling naming orders acks reports waiting moving catalogue
-- KEYS head
-- ARGV tag run now_ms clock_kind epoch_if_new seen_days parked_max confirm_after_ms settle_memory_ms remember_ms feed_max ... rows
-- FLAGS allow-oom

-- The account was stale and is no longer: what rested on it is looked at again.
local function revive(account)
  if redis.call('EXISTS', tag .. 'stale:' .. account) == 1 then
    redis.call('ZADD', tag .. 'due', text(now), 'w' .. US .. account)
  end
end

local function watermark(row)
  local role = role_of(row.account)
  if row.at > role.watermark then
    role.watermark = row.at
    redis.call('HSET', tag .. 'watermarks', row.account, text(row.at))
    revive(row.account)
  end
  return 'unchanged', 0
end

local function tickle(row)
  fetch_now(row)
  return 'refetch', 0
end

local VERBS = {L = report, R = report, D = report, O = report, A = report, T = tickle, C = catalogue, W = watermark}

local heard = {}

-- Notes when each account was last heard, whatever it said: one that goes on saying the same is not silent.
local function note_heard()
  for account, at in pairs(heard) do
    if at > tonumber(redis.call('HGET', tag .. 'heard', account) or '0') then
      redis.call('HSET', tag .. 'heard', account, text(at))
    end
  end
end

lapse_holds()
publish_all()
local outcomes = {}
for start = rest_from + 1, #ARGV, ROW do
  local row = read_row(ARGV, start)
  -- A row that cannot be applied must not keep the others, or the head, from being written.
  local done, outcome, at = pcall(VERBS[row.kind], row)
  outcomes[#outcomes + 1] = done and outcome or 'failed'
  outcomes[#outcomes + 1] = done and at or tostring(type(outcome) == 'table' and outcome.err or outcome)
  if done and row.account ~= '' then
    heard[row.account] = math.max(heard[row.account] or 0, row.at)
  end
end
publish_all()
note_heard()
write_states()
write_head()
return {epoch, text(seq), outcomes}
