-- Decides what reports of sources do to the stock of one merchant, and tells it: one atomic step.
--
-- Its parts lie in apply/ and are read in the order named below.
-- docs/stock-model.md states the rules; tests/support/reference_model.py states them again without this code.
--
-- PARTS known answers writing fetching repeats reports waiting catalogue
-- KEYS head ledger feed skus roles locations watermarks parked
-- ARGV now_ms epoch_if_new sku_prefix items_prefix group_prefix refetch_prefix seen_prefix seen_days parked_max confirm_after_ms ledger_max feed_max ... rows
-- FLAGS allow-oom

local function watermark(row)
  local role = role_of(row.account)
  if row.at > role.watermark then
    role.watermark = row.at
    redis.call('HSET', watermarks, row.account, text(row.at))
  end
  return 'unchanged', 0
end

local function tickle(row)
  fetch_now(row)
  return 'refetch', 0
end

local VERBS = {L = report, R = report, D = report, T = tickle, C = catalogue, W = watermark}

local outcomes = {}
for start = rest_from + 1, #ARGV, ROW do
  local row = read_row(ARGV, start)
  -- A row that cannot be applied must not keep the others, or the head, from being written.
  local done, outcome, at = pcall(VERBS[row.kind], row)
  outcomes[#outcomes + 1] = done and outcome or 'failed'
  outcomes[#outcomes + 1] = done and at or tostring(type(outcome) == 'table' and outcome.err or outcome)
end
write_back()
return outcomes
