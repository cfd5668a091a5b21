-- Grants holds, each on all of its lines or on none: first come, first served, several requests in one step.
--
-- Returns the head, and for each request what was done ('held', 'refused', 'replay', 'mismatch', 'policy_moved',
-- 'renamed', 'limited', 'frozen', 'hold_unknown', 'closed', 'again' or 'failed'), the first answer, what became of the
-- hold since, and what was done the first time. A request is twenty-one arguments and its lines, a line fourteen; they are named in `read_request` and
-- `read_line`. 'again': more holds were over than one step ends, so the request has not been looked at yet.
--
-- PARTS clock rate states writing holds
-- KEYS head
-- ARGV tag run now_ms clock_kind epoch_if_new remember_ms feed_max review_ms ... requests

local REQUEST = 21
local LINE = 14
local cursor = rest_from + 1
local asked -- the request in hand

local function read_line(start)
  return {sku = ARGV[start], quantity = tonumber(ARGV[start + 1]), location = ARGV[start + 2],
    buffer_units = tonumber(ARGV[start + 3]), buffer_bp = tonumber(ARGV[start + 4]),
    lag_units = tonumber(ARGV[start + 5]), allowance_bp = tonumber(ARGV[start + 6]), cap = tonumber(ARGV[start + 7]),
    agent_max = tonumber(ARGV[start + 8]), buyer_max = tonumber(ARGV[start + 9]), on_stale = ARGV[start + 10],
    on_unknown = ARGV[start + 11], may_split = ARGV[start + 12] == '1', ver = tonumber(ARGV[start + 13])}
end

-- Reads the next request and moves on; what follows it are its lines.
local function read_request()
  local at = cursor
  local request = {once = ARGV[at], fingerprint = ARGV[at + 1], policy = ARGV[at + 2], interval = tonumber(ARGV[at + 3]),
    burst = tonumber(ARGV[at + 4]), agent = ARGV[at + 5], buyer = ARGV[at + 6], session = ARGV[at + 7],
    channel = ARGV[at + 8], tier = ARGV[at + 9], mode = ARGV[at + 10], ttl = tonumber(ARGV[at + 11]),
    life = tonumber(ARGV[at + 12]), confirm_ms = tonumber(ARGV[at + 13]), conflict = ARGV[at + 14],
    transactions_max = tonumber(ARGV[at + 15]), expected_seq = tonumber(ARGV[at + 16]), replaces = ARGV[at + 17],
    longest = tonumber(ARGV[at + 18]), ship_to = ARGV[at + 19], lines = {}}
  for i = 1, tonumber(ARGV[at + 20]) do
    request.lines[i] = read_line(at + REQUEST + (i - 1) * LINE)
  end
  cursor = at + REQUEST + #request.lines * LINE
  return request
end

-- Keeps what a repeat of the request is answered with: of a hold its id and its facts, else the answer.
local function remember(kind, id, answer)
  if asked.once ~= '' then
    redis.call('SET', tag .. 'once:' .. asked.once, asked.fingerprint .. '\n' .. kind .. '\n' .. id .. '\n' .. answer, 'PX',
      remember_ms)
  end
end

-- A hold as the request in hand has it. What a hold has beyond its request is kept for repeats in `facts_of`.
local function new_hold(id, policy, granted, deadline)
  return {id = id, seq = tonumber(string.match(id, '%d+$')), status = 'held', mode = asked.mode, agent = asked.agent,
    buyer = asked.buyer, session = asked.session, channel = asked.channel, tier = asked.tier, born = now,
    deadline = deadline, longest = asked.longest, latest = now + asked.life, granted_us = granted,
    confirm_ms = asked.confirm_ms, conflict = asked.conflict, order = '', policy = policy, lines = {}, day = day_now(),
    ship_to = asked.ship_to ~= '' and asked.ship_to or nil}
end

local function facts_of(hold)
  return hold.policy .. '|' .. hold.granted_us .. '|' .. text(hold.deadline) .. '|' ..
    (hold.review_due and text(hold.review_due) or '') .. '|' .. hold.channel
end

-- The first answer to a request that is repeated: the same request, so its lines are those that were held.
local function first_answer(id, facts)
  local policy, granted, deadline, review_due, channel = string.match(facts, '^(%d+)|(%d+)|(%d+)|(%d*)|(.*)$')
  local hold = new_hold(id, policy, granted, tonumber(deadline))
  hold.review_due, hold.channel = tonumber(review_due), channel
  for i, line in ipairs(asked.lines) do
    hold.lines[i] = {sku = line.sku, quantity = line.quantity, location = line.location}
  end
  return cjson.encode(hold)
end

-- Whether the SKU is called something else by now: then the caller has to say it by that name, under whose terms it is.
local function has_new_name(sku)
  return load_answer(sku).gone == 1 and redis.call('HEXISTS', tag .. 'aliases', sku) == 1
end

local function has_old_name()
  for _, line in ipairs(asked.lines) do
    if has_new_name(line.sku) then
      return true
    end
  end
  return false
end

local function has_line_of(hold, sku)
  for _, lines in ipairs({hold.lines, hold.returned}) do
    for _, line in ipairs(lines) do
      if line.sku == sku then
        return true
      end
    end
  end
  return false
end

-- Whether what a repeat asks for by an old name was held by the present one.
local function is_held_otherwise(id)
  local hold = has_old_name() and read_hold(id) or nil
  for _, line in ipairs(hold and asked.lines or {}) do
    if has_new_name(line.sku) and not has_line_of(hold, line.sku) then
      return true
    end
  end
  return false
end

local function replay(stored)
  local print, kind, id, answer = string.match(stored, '^([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
  if print ~= asked.fingerprint then
    return {'mismatch', '', ''}
  end
  if id == '' then
    return {'replay', answer, '', kind}
  end
  if is_held_otherwise(id) then
    return {'renamed', '', ''}
  end
  return {'replay', first_answer(id, answer), present(id), kind}
end

-- What the hold that is replaced would give back: of SKUs, at places, and to those whose units are counted.
local function credits(old)
  local credit = {}
  if not old then
    return credit
  end
  local function add(what, units)
    credit[what] = (credit[what] or 0) + units
  end
  for _, line in ipairs(unsold(old)) do
    add(line.sku, line.quantity)
    if line.location ~= '' then
      add(line.sku .. US .. line.location, line.quantity)
    end
    for _, limit in ipairs(old.day == day_now() and line.limits or {}) do
      add(limit.field, line.quantity)
    end
  end
  return credit
end

local function limit(kind, whom, sku, max)
  return {field = kind .. US .. whom .. US .. sku, max = max}
end

-- Who may have only so many of the line's SKU in a day.
local function limits_of(line)
  local limits = {}
  if line.cap then
    limits[1] = limit('n', asked.channel, line.sku, line.cap)
  end
  if line.agent_max then
    limits[#limits + 1] = limit('u', asked.agent, line.sku, line.agent_max)
  end
  if line.buyer_max and asked.buyer ~= '' then
    limits[#limits + 1] = limit('b', asked.buyer, line.sku, line.buyer_max)
  end
  return limits
end

local function buffer_of(state, line)
  return line.buffer_units + math.ceil(state.ref * line.buffer_bp / 10000) + state.lag * line.lag_units
end

local function visible(state, line, credit)
  local allowance = math.floor(state.ref * line.allowance_bp / 10000)
  return state.ats + (credit[line.sku] or 0) - buffer_of(state, line) + allowance
end

local function lacking(state, left)
  local has_moved = asked.expected_seq and state.seq > asked.expected_seq
  return has_moved and 'sequence_moved' or 'insufficient', math.max(0, left)
end

local function over_limit(line, units, credit)
  for _, limit in ipairs(line.limits) do
    local left = limit.max - counted(limit.field) + (credit[limit.field] or 0)
    if units > left then
      return string.sub(limit.field, 1, 1) == 'n' and 'channel_cap' or 'unit_limit', math.max(0, left)
    end
  end
  return nil
end

-- Whether the locations have it: the one that the line names, or a single one where nothing may be split.
local function misplaced(state, line, units, units_here, credit)
  local best, here = 0, 0
  for _, cell in ipairs(cells_of(state)) do
    local left = cell.base - cell.held + (credit[line.sku .. US .. cell.place] or 0)
    best = math.max(best, left)
    if cell.place == line.location then
      here = left
    end
  end
  if line.location ~= '' and units_here > here then
    return lacking(state, here)
  end
  if not line.may_split and line.location == '' and state.known == 1 and units > best then
    return lacking(state, best)
  end
  return nil
end

-- Why this line cannot be held, with what is there; nil when it can. `units` and
-- `units_here` are the units of all lines on the SKU, and of those that name this location.
local function objection(state, line, units, units_here, credit)
  if state.ver == 0 then
    return 'unknown_sku', 0
  end
  if state.cat == 'D' or state.gone == 1 then
    return 'discontinued', 0
  end
  if line.ver and line.ver ~= state.ver then
    return 'changed', 0
  end
  if state.known == 0 and line.on_unknown ~= 'assume_in' then
    return 'unknown_level', 0
  end
  if state.known == 1 and state.stale == 1 and (line.on_stale == 'assume_out' or line.on_stale == 'escalate') then
    return 'stale', 0
  end
  local is_assumed = state.known == 0 or (state.stale == 1 and line.on_stale == 'assume_in')
  local free = visible(state, line, credit)
  if units > free and not is_assumed then
    return lacking(state, free)
  end
  local reason, left = over_limit(line, units, credit)
  if reason then
    return reason, left
  end
  return misplaced(state, line, units, units_here, credit)
end

local function refuse(line, reason, available)
  local state = load_answer(line.sku)
  local answer = cjson.encode({reason = reason, sku = line.sku, available = available, seq = state.seq,
    ver = state.ver, now = now})
  remember('refused', '', answer)
  return {'refused', answer, ''}
end

-- Transactions of a session: one that is given back was still one, and one that is replaced is the same.
local function transactions()
  return 's' .. US .. asked.agent .. US .. asked.session
end

local function begins_another(old)
  return asked.transactions_max and not (old and old.session == asked.session)
end

local function hold_line(hold, line)
  local state = load_answer(line.sku)
  local kept = {sku = line.sku, quantity = line.quantity, location = line.location, allowance_bp = line.allowance_bp,
    buffer = buffer_of(state, line), limits = line.limits, is_assumed = line.on_stale == 'assume_in' or nil}
  set_aside(state, kept, line.quantity)
  if state.ats < 0 then
    hold.review_due = now + tonumber(review_ms)
  end
  redis.call('ZADD', sku_holds(line.sku), text(hold.seq), member_of(hold, kept))
  note(state, hold, line.location, '', 'held:' .. text(line.quantity), asked.mode .. ':' .. asked.agent)
  count_line(hold, kept, 1)
  return kept
end

-- Two servers can go on from one history, each with the same next sequence, until the one that was replaced is found
-- out. Whichever was not the first to have the history says so in its ids: they never meet.
local function next_id()
  local run_tag = redis.call('HGET', head, 'run_tag')
  return epoch .. (run_tag and '.' .. run_tag or '') .. '.' .. text(seq + 1)
end

local function hold_all(lines)
  local hold = new_hold(next_id(), asked.policy, next_grant_us(), now + asked.ttl)
  for i, line in ipairs(lines) do
    hold.lines[i] = hold_line(hold, line)
  end
  redis.call('ZADD', holds_due, text(hold.deadline), hold.id)
  return hold
end

local function grant()
  local units = {}
  for _, line in ipairs(asked.lines) do
    line.limits = limits_of(line)
    local place = line.sku .. US .. line.location
    units[line.sku] = (units[line.sku] or 0) + line.quantity
    units[place] = (units[place] or 0) + line.quantity
  end
  local old = asked.replaces ~= '' and read_hold(asked.replaces) or nil
  if asked.replaces ~= '' and not (old and old.agent == asked.agent) then
    return {'hold_unknown', '', ''}
  end
  if old and (old.status == 'committed' or old.status == 'confirming') then
    return {'closed', '', cjson.encode(old)} -- it was bought: nothing is left that another one could take the place of
  end
  old = is_live(old) and old or nil
  if begins_another(old) and counted(transactions()) >= asked.transactions_max then
    return refuse(asked.lines[1], 'transaction_limit', 0)
  end
  if has_old_name() then
    return {'renamed', '', ''}
  end
  local credit = credits(old)
  for _, line in ipairs(asked.lines) do
    local reason, available = objection(load_answer(line.sku), line, units[line.sku],
      units[line.sku .. US .. line.location], credit)
    if reason then
      return refuse(line, reason, available)
    end
  end
  if old then
    give_back(old, 'released', 'replaced')
    close_hold(old, 'released')
  end
  local hold = hold_all(asked.lines)
  if begins_another(old) then
    count(hold.day, transactions(), 1)
  end
  local stored = write_hold(hold)
  remember('held', hold.id, facts_of(hold))
  return {'held', stored, ''}
end

local function decide()
  if asked.policy ~= (stored_head[7] or '0') then
    return {'policy_moved', stored_head[7] or '0', ''}
  end
  local wait = take_token(tag .. 'rate:' .. asked.agent, asked.interval, asked.burst)
  if wait > 0 then
    return {'limited', text(wait), ''}
  end
  local known = asked.once ~= '' and redis.call('GET', tag .. 'once:' .. asked.once)
  if not known and is_frozen() then
    return {'frozen', text(frozen_until - now), ''}
  end
  return known and replay(known) or grant()
end

local has_ended_all = lapse_holds() < LAPSE_AT_ONCE
local results = {}
while cursor <= #ARGV do
  asked = read_request()
  -- One request that cannot be decided must not keep the others, or the head, from being written.
  local done, result = true, {'again', '', ''}
  if has_ended_all then
    done, result = pcall(decide)
  end
  results[#results + 1] = done and result or {'failed', tostring(type(result) == 'table' and result.err or result), ''}
end
write_tokens()
publish_all()
write_states()
write_head()
return {epoch, text(seq), results}
