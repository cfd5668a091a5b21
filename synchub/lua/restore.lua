-- Takes back what was granted and is not known any more, because its owner has shown the tokens again.
--
-- A receipt becomes a sale again, also where the stock does not suffice: it has been sold. A hold is held again until its
-- deadline if there is enough. What is known stays as it is, so a token may be shown as often as anybody likes.
--
-- Returns the head, and for each token what was done ('restored', 'known', 'refused', or 'failed'), why it was refused,
-- and the hold as it is now. A token is eleven arguments and its lines, a line four; they are named in `read_token`.
--
-- PARTS clock states accounts sources writing versions answers lines inclusion sales holds selling portions
-- KEYS head
-- ARGV tag run now_ms clock_kind epoch_if_new settle_memory_ms remember_ms feed_max agent oldest_ms ... tokens
-- FLAGS allow-oom

local TOKEN, LINE = 11, 4
local cursor = rest_from + 1

local function read_token()
  local at = cursor
  local token = {id = ARGV[at], is_receipt = ARGV[at + 1] == 'committed', mode = ARGV[at + 2], channel = ARGV[at + 3],
    tier = ARGV[at + 4], deadline = tonumber(ARGV[at + 5]), latest = tonumber(ARGV[at + 6]),
    longest = tonumber(ARGV[at + 7]), granted_us = ARGV[at + 8], order = ARGV[at + 9], lines = {}}
  cursor = at + TOKEN
  for i = 1, tonumber(ARGV[at + 10]) do
    token.lines[i] = {sku = ARGV[cursor], quantity = tonumber(ARGV[cursor + 1]), location = ARGV[cursor + 2],
      allowance_bp = tonumber(ARGV[cursor + 3]), buffer = 0}
    cursor = cursor + LINE
  end
  return token
end

local function hold_of(token)
  return {id = token.id, status = 'held', mode = token.mode, agent = agent, buyer = '', session = '',
    channel = token.channel, tier = token.tier, born = math.floor(tonumber(token.granted_us) / 1000),
    deadline = token.deadline, longest = token.longest, latest = token.latest, granted_us = token.granted_us,
    confirm_ms = 0, conflict = 'honour', order = token.order, policy = stored_head[7] or '0', lines = token.lines,
    day = day_now()}
end

-- Sold long ago: of the hold nothing is left, and its sale is still known by name.
local function is_sold(token)
  return line_named('h' .. US .. token.id .. US .. token.lines[1].sku) ~= nil
end

local function free_at(state, place)
  for _, cell in ipairs(cells_of(state)) do
    if cell.place == place then
      return cell.base - cell.held
    end
  end
  return 0
end

local function is_enough(lines)
  local asked = {}
  for _, line in ipairs(lines) do
    local place = line.sku .. US .. line.location
    asked[line.sku] = (asked[line.sku] or 0) + line.quantity
    asked[place] = (asked[place] or 0) + line.quantity
    local state = load_answer(line.sku)
    local free = state.ats + math.floor(math.max(0, state.ref) * line.allowance_bp / 10000)
    if state.known == 0 or state.cat == 'D' or state.gone == 1 or asked[line.sku] > free
      or (line.location ~= '' and asked[place] > free_at(state, line.location)) then
      return false
    end
  end
  return true
end

local function take(hold)
  hold.status, hold.seq = 'held', seq + 1
  for _, line in ipairs(unsold(hold)) do
    local state = load_answer(line.sku)
    set_aside(state, line, line.quantity)
    if state.ats < 0 then
      hold.review_due = hold.review_due or now + DAY_MS
    end
    redis.call('ZADD', sku_holds(line.sku), text(hold.seq), member_of(hold, line))
    note(state, hold, line.location, '', 'held:' .. text(line.quantity), 'restore:' .. agent)
  end
  redis.call('ZREM', tag .. 'due', 'm' .. US .. hold.id) -- it was over, and is not to be forgotten now
  redis.call('ZADD', holds_due, text(hold.deadline), hold.id)
end

local function restore_receipt(token, hold)
  if hold and (hold.status == 'committed' or hold.status == 'confirming') or not hold and is_sold(token) then
    return {'known', '', hold and cjson.encode(hold) or ''}
  end
  if tonumber(token.granted_us) / 1000 < tonumber(oldest_ms) then
    return {'refused', 'too_old', ''}
  end
  local was_live = hold and hold.status == 'held'
  hold = hold or hold_of(token)
  local bought = bought_of(hold, token.lines)
  if bought then
    keep_bought(hold, bought, 'restore:' .. agent) -- of what was held a part may have been bought
  end
  if not was_live then
    take(hold)
  end
  hold.order = token.order
  return {'restored', '', commit_hold(hold, '', 'restore:' .. agent)}
end

local function prolong(token, hold)
  if token.deadline <= hold.deadline then
    return {'known', '', cjson.encode(hold)}
  end
  hold.deadline = token.deadline
  redis.call('ZADD', holds_due, text(hold.deadline), hold.id)
  return {'restored', '', write_hold(hold)}
end

local function restore_hold(token, hold)
  if hold and hold.status == 'held' then
    return prolong(token, hold)
  end
  if hold and (hold.status ~= 'expired' or token.deadline <= hold.deadline) or not hold and is_sold(token) then
    return {'known', '', hold and cjson.encode(hold) or ''}
  end
  if token.deadline <= now then
    return {'refused', 'expired', ''}
  end
  hold = hold or hold_of(token)
  if not is_enough(unsold(hold)) then
    return {'refused', 'insufficient', ''}
  end
  hold.deadline = token.deadline
  take(hold)
  return {'restored', '', write_hold(hold)}
end

local function restore(token)
  local hold = read_hold(token.id)
  if hold and hold.agent ~= agent then
    return {'refused', 'hold_unknown', ''}
  end
  return (token.is_receipt and restore_receipt or restore_hold)(token, hold)
end

lapse_holds()
local results = {}
while cursor <= #ARGV do
  local token = read_token()
  -- One token that cannot be restored must not keep the others, or the head, from being written.
  local done, result = pcall(restore, token)
  results[#results + 1] = done and result or {'failed', tostring(type(result) == 'table' and result.err or result), ''}
end
publish_all()
write_states()
write_head()
return {epoch, text(seq), results}
