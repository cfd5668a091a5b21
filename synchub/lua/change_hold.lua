-- Renews, commits or releases one hold; a payment that comes too late can be granted anew.
-- Each verb is done at most once for one key. A commit may buy less than is held: its lines are three arguments each,
-- SKU, units and location, and what they leave is given back in the same step.
--
-- Returns what it did ('done', 'replay', 'mismatch', 'hold_unknown', 'hold_expired', 'conflict', 'closed',
-- 'sequence_moved', 'ttl_refused', 'not_held', 'limited', 'frozen', 'again'), the first answer, the hold as it is now,
-- what was done the first time where this is a repeat, and the head. 'again': more holds were over than one step ends,
-- so nothing of the request has been looked at yet. 'not_held': with the first line that buys more than is held.
--
-- PARTS clock rate states accounts sources writing versions answers lines inclusion sales holds selling portions
-- KEYS head
-- ARGV tag run now_ms clock_kind epoch_if_new settle_memory_ms remember_ms feed_max interval_us burst verb once fingerprint agent id ttl_ms order_id expected_seq regrants ... lines
-- FLAGS allow-oom

local function answer_once(kind, stored)
  if once ~= '' then
    redis.call('SET', tag .. 'once:' .. once, table.concat({fingerprint, kind, id, stored}, '\n'), 'PX', remember_ms)
  end
  return {kind, stored, stored}
end

local function replay(stored)
  local print, kind, hold_id, answer = string.match(stored, '^([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
  if print ~= fingerprint then
    return {'mismatch', '', ''}
  end
  return {'replay', answer, present(hold_id), kind}
end

local function renew(hold)
  if tonumber(ttl_ms) > hold.longest then
    return {'ttl_refused', '', cjson.encode(hold)}
  end
  hold.deadline = math.max(hold.deadline, math.min(now + tonumber(ttl_ms), hold.latest))
  redis.call('ZADD', holds_due, text(hold.deadline), hold.id)
  return answer_once('done', write_hold(hold))
end

local function release(hold)
  give_back(hold, 'released', 'released')
  return answer_once('done', close_hold(hold, 'released'))
end

local BOUGHT_LINE = 3

local function lines_asked()
  local asked = {}
  for at = rest_from + 1, #ARGV, BOUGHT_LINE do
    asked[#asked + 1] = {sku = ARGV[at], quantity = tonumber(ARGV[at + 1]), location = ARGV[at + 2]}
  end
  return asked
end

-- The units of each SKU that a commit gives back.
local function freed_by(hold, bought)
  local freed = {}
  for _, line in ipairs(unsold(hold)) do
    freed[line.sku] = (freed[line.sku] or 0) + line.quantity - (bought[line] or 0)
  end
  return freed
end

-- Whether some line lies beyond the stock and what may be oversold, beyond the stock alone, and has changed since the
-- sequence that the caller has seen: a sequence matters only when what is held is no longer there.
local function standing(hold, bought, freed)
  local beyond, below_zero, moved = false, false, false
  for _, line in ipairs(unsold(hold)) do
    if not bought or (bought[line] or 0) > 0 then
      local state = load_answer(line.sku)
      beyond = beyond or lies_beyond(state, hold, line, freed[line.sku]) > 0
      below_zero = below_zero or shortage(state, hold, line, freed[line.sku] or 0) > 0
      moved = moved or (expected_seq ~= '' and state.seq > tonumber(expected_seq))
    end
  end
  return beyond, below_zero, moved
end

local function commit(hold, bought)
  local beyond, below_zero, moved = standing(hold, bought, bought and freed_by(hold, bought) or {})
  if beyond and moved then
    return answer_once('sequence_moved', cjson.encode(hold))
  end
  if bought then
    keep_bought(hold, bought, 'commit:' .. agent)
  end
  hold.order = order_id
  if beyond then
    resolve(hold)
  elseif below_zero then
    hold.review_due = hold.review_due or now + DAY_MS
  end
  if beyond and hold.conflict == 'void' then
    give_back(hold, 'voided', 'conflict')
    return answer_once('conflict', close_hold(hold, 'voided'))
  end
  return answer_once(beyond and 'conflict' or 'done', commit_hold(hold, '', 'commit:' .. agent))
end

local function left_at(state, place)
  for _, cell in ipairs(cells_of(state)) do
    if cell.place == place then
      return cell.base - cell.held
    end
  end
  return 0
end

local function can_be_had(line, units)
  local state = load_answer(line.sku)
  local free = state.ats - line.buffer + math.floor(math.max(0, state.ref) * line.allowance_bp / 10000)
  if state.known == 0 or state.cat == 'D' or state.gone == 1 or units > free then
    return false
  end
  for _, limit in ipairs(line.limits or {}) do
    if counted(limit.field) + units > limit.max then
      return false
    end
  end
  return line.location == '' or line.quantity <= left_at(state, line.location)
end

-- A payment that comes after the deadline: granted anew if it still can be, and bought in the same step.
local function grant_anew(hold)
  local lines = unsold(hold)
  for _, line in ipairs(lines) do
    local units = 0
    for _, other in ipairs(lines) do
      units = units + (other.sku == line.sku and other.quantity or 0)
    end
    if not can_be_had(line, units) then
      return false
    end
  end
  hold.status, hold.seq, hold.granted_us, hold.day = 'held', seq + 1, next_grant_us(), day_now()
  for _, line in ipairs(lines) do
    set_aside(load_answer(line.sku), line, line.quantity)
    count_line(hold, line, 1)
    redis.call('ZADD', sku_holds(line.sku), text(hold.seq), member_of(hold, line))
    note(load_answer(line.sku), hold, line.location, 'expired', 'held:' .. text(line.quantity), 'regrant:' .. agent)
  end
  return true
end

local VERBS = {renew = renew, release = release, commit = commit}

local function change()
  local hold = read_hold(id)
  if not hold and is_frozen() then
    return {'frozen', text(frozen_until - now), ''} -- it may be lost, and its owner may still prove it
  end
  if not hold or hold.agent ~= agent then
    return {'hold_unknown', '', ''}
  end
  if hold.status == 'expired' and verb == 'commit' and regrants == '1' and is_frozen() then
    return {'frozen', text(frozen_until - now), ''}
  end
  local may_come_late = verb == 'commit' and regrants == '1'
  if hold.status ~= 'held' and not (hold.status == 'expired' and may_come_late) then
    return answer_once(hold.status == 'expired' and 'hold_expired' or 'closed', cjson.encode(hold))
  end
  local bought, lacking = nil, nil
  if verb == 'commit' and #ARGV > rest_from then
    bought, lacking = bought_of(hold, lines_asked())
  end
  if lacking then
    return {'not_held', cjson.encode(lacking), cjson.encode(hold)}
  end
  if hold.status == 'expired' then
    local before = cjson.encode(hold)
    if bought then
      keep_bought(hold, bought, 'commit:' .. agent)
    end
    if not grant_anew(hold) then
      return answer_once('hold_expired', before)
    end
    bought = nil
  end
  return VERBS[verb](hold, bought)
end

local function decide()
  local wait = take_token(tag .. 'rate:' .. agent, tonumber(interval_us), tonumber(burst))
  if wait > 0 then
    return {'limited', text(wait), ''}
  end
  local known = once ~= '' and redis.call('GET', tag .. 'once:' .. once)
  return known and replay(known) or change()
end

local result = lapse_holds() < LAPSE_AT_ONCE and decide() or {'again', '', ''}
write_tokens()
publish_all()
write_states()
write_head()
return {result[1], result[2], result[3], result[4] or '', epoch, text(seq)}
