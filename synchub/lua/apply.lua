-- Decides what reports of sources do to the stock of one merchant, and tells it: one atomic step.
--
-- Its parts lie in parts/ and are read in the order named below.
-- docs/stock-model.md states the rules; tests/support/reference_model.py states them again without this code.
--
-- PARTS clock states accounts sources writing answers versions fetching repeats lines inclusion sales holds selling naming orders acks reports waiting moving catalogue positions
-- KEYS head
-- ARGV tag run now_ms clock_kind epoch_if_new seen_days parked_max confirm_after_ms settle_memory_ms remember_ms feed_max ... rows
-- FLAGS allow-oom

-- The account was stale and is no longer: what rested on it is looked at again.
local function revive(account)
  if redis.call('EXISTS', tag .. 'stale:' .. account) == 1 then
    redis.call('ZADD', tag .. 'due', text(now), 'w' .. US .. account)
  end
end

local function complete_to(account, at)
  local role = role_of(account)
  if at > role.watermark then
    role.watermark = at
    redis.call('HSET', tag .. 'watermarks', account, text(at))
    revive(account)
  end
end

local function watermark(row)
  complete_to(row.account, row.at)
  return 'unchanged', 0
end

-- A poll that has come to the end of what there was makes the account as complete as the poll's beginning.
local function move_on(row)
  local outcome, at = position(row)
  if outcome == 'applied' then
    complete_to(row.account, row.evidence)
  end
  return outcome, at
end

local function tickle(row)
  fetch_now(row)
  return 'refetch', 0
end

local VERBS = {L = report, R = report, D = report, O = report, A = report, T = tickle, C = catalogue, W = watermark,
  P = move_on}

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
  local done, outcome, at = true, 'superseded', 0
  if not is_left(row) then
    -- A row that cannot be applied must not keep the others, or the head, from being written.
    done, outcome, at = pcall(VERBS[row.kind], row)
    note_trouble(row, done and outcome or 'failed')
  end
  outcomes[#outcomes + 1] = done and outcome or 'failed'
  outcomes[#outcomes + 1] = done and at or tostring(type(outcome) == 'table' and outcome.err or outcome)
  if done and row.account ~= '' and not left[row.account] then
    heard[row.account] = math.max(heard[row.account] or 0, row.at)
  end
end
publish_all()
note_heard()
write_states()
write_head()
return {epoch, text(seq), outcomes}
