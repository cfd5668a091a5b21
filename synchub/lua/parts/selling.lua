-- From a hold to sales: commit, the moment before it is final, and taking it back.

local confirms_due = tag .. 'confirms-due'

-- The sale that a line of the hold has become elsewhere already: acknowledged, or ordered, before it was committed.
local function sale_of(hold, line)
  local sale = line_named('h' .. US .. hold.id .. US .. line.sku)
  if not sale and hold.order ~= '' then
    sale = line_named('c' .. US .. hold.order .. US .. line.sku)
    if sale and sale.hold and sale.hold ~= hold.id then
      return nil -- another sale of the same order
    end
  end
  return sale
end

local function sell_line(hold, line, status, origin)
  local sale = sale_of(hold, line)
  local state = sale and load_sku(line.sku) or load_answer(line.sku)
  set_aside(state, line, -line.quantity)
  redis.call('ZREM', sku_holds(line.sku), member_of(hold, line))
  local is_counted = sale and sale.order and sale.q > 0
  sale = sale or new_line('h' .. US .. hold.id .. US .. line.sku, line.sku, status)
  sale.hold = hold.id
  give_name(sale, 'h' .. US .. hold.id .. US .. line.sku)
  if hold.order ~= '' then
    give_name(sale, 'c' .. US .. hold.order .. US .. line.sku)
    note_order(sale, 'c' .. US .. hold.order .. US .. line.sku)
  end
  line.places = {}
  if is_counted then
    evaluate_everywhere(state, sale)
    return state, sale, true
  end
  sale.status, sale.origin = status, origin
  line.places = line.location ~= '' and {{place = line.location, n = line.quantity}}
    or choose(state, line.quantity, origin, hold.ship_to)
  sale.placed = line.location ~= ''
  take_units(state, sale, {n = line.quantity, us = '', at = now}, line.places)
  if state.is_whole then
    follow_acks(state, sale)
    evaluate_everywhere(state, sale)
  else
    state.ats = state.ats - line.quantity
    for _, at_place in ipairs(line.places) do
      change_cell(state, at_place.place, -at_place.n, 0)
    end
    redis.call('ZADD', open_lines(line.sku), text(now), sale.id)
    save_line(sale)
  end
  return state, sale, false
end

-- What the ledger says of a line besides: the sale that it is, where it is not the hold's own, and where it lies.
local function told_of(hold, line, sale, is_counted)
  local more = {}
  local function tell(name, value)
    more[#more + 1], more[#more + 2] = name, value
  end
  if hold.order ~= '' then
    tell('order', hold.order)
  end
  if hold.ship_to then
    tell('ship_to', hold.ship_to)
  end
  if sale.id ~= 'h' .. US .. hold.id .. US .. line.sku then
    tell('line', sale.id)
  end
  if is_counted then
    tell('counted', '1')
  elseif #line.places > 1 then
    tell('places', places_text(line.places))
  end
  return more
end

-- Turns what a live hold keeps of some lines into sales; what can be sold does not move.
local function sell(hold, sold, status, to, origin, cause)
  for _, line in ipairs(sold) do
    local state, sale, is_counted = sell_line(hold, line, status, origin)
    local more = told_of(hold, line, sale, is_counted)
    line.sold = true
    local place, from = line.places[1] and line.places[1].place or line.location, 'held:' .. text(line.quantity)
    if state.is_whole then
      state.answer_forced = true
      record(state, {account = origin, item = hold.id, version = '', cause = cause, at = now},
        {field = 'hold', place = place, from = from, to = to, more = more})
    else
      note(state, hold, place, from, to, cause, more)
    end
  end
end

-- What an order sells of a hold; the rest stays held, for other orders or until the deadline.
local function sell_sku(hold, sku, cause, order_id)
  local sold = {}
  for _, line in ipairs(unsold(hold)) do
    if line.sku == sku then
      sold[#sold + 1] = line
    end
  end
  sell(hold, sold, 'o', 'committed', '', cause)
  -- Noted only now: another platform's order may have the same number, and is no sale of this hold.
  hold.order = #sold > 0 and order_id or hold.order
  if #sold > 0 and #unsold(hold) == 0 then
    redis.call('ZREM', holds_due, hold.id)
    hold.committed = now
    close_hold(hold, 'committed')
  elseif #sold > 0 then
    write_hold(hold)
  end
end

-- Whether orders stand behind all of it already: then there is nothing to confirm.
local function is_ordered(hold)
  for _, line in ipairs(unsold(hold)) do
    local sale = sale_of(hold, line)
    if not (sale and sale.order and sale.q > 0) then
      return false
    end
  end
  return true
end

local function commit_hold(hold, origin, cause)
  local confirms = hold.confirm_ms > 0 and origin == '' and not is_ordered(hold)
  local status = confirms and 'confirming' or 'committed'
  sell(hold, unsold(hold), confirms and 'c' or 'o', status, origin, cause)
  redis.call('ZREM', holds_due, hold.id)
  hold.committed = now
  if confirms then
    hold.status, hold.deadline = 'confirming', now + hold.confirm_ms
    redis.call('ZADD', confirms_due, text(hold.deadline), hold.id)
    return write_hold(hold)
  end
  return close_hold(hold, status)
end

-- What was held lies beyond the stock: the merchant's policy says what becomes of it, and a person is to look.
local function resolve(hold)
  hold.reason, hold.resolution = 'conflict', hold.conflict
  if hold.conflict ~= 'void' then
    hold.review_due = hold.review_due or now + DAY_MS
  end
end

-- Takes a sale back that was not yet final. Only its names are left: an order that still comes is a sale of its own.
local function void_line(hold, line, sale)
  local state = load_sku(line.sku)
  drop_units(state, sale)
  sale.status, sale.hold = 'x', nil
  save_line(sale)
  count_line(hold, line, -1)
  record(state, {account = '', item = hold.id, version = '', cause = 'conflict', at = now, kind = 'H'},
    {field = 'hold', place = line.location, from = 'confirming', to = 'voided'})
end

local function confirm_line(hold, line, sale)
  sale.status = 'o'
  save_line(sale)
  emit(load_answer(line.sku), {account = '', item = hold.id, version = '', cause = 'confirmed', at = now},
    {field = 'hold', place = line.location, from = 'confirming', to = 'committed'}, false)
end

-- The end of the time in which a sale can be taken back; what an order has confirmed meanwhile stays sold.
local function confirm(hold)
  local waiting, beyond = {}, 0
  for _, line in ipairs(hold.lines) do
    local sale = line_named('h' .. US .. hold.id .. US .. line.sku)
    if sale and sale.status == 'c' then
      waiting[#waiting + 1] = {line = line, sale = sale}
      beyond = beyond + lies_beyond(load_answer(line.sku), hold, line)
    end
  end
  if beyond > 0 then
    resolve(hold)
  end
  local is_void = beyond > 0 and hold.conflict == 'void'
  for _, each in ipairs(waiting) do
    (is_void and void_line or confirm_line)(hold, each.line, each.sale)
  end
  redis.call('ZREM', confirms_due, hold.id)
  return close_hold(hold, is_void and #waiting == #hold.lines and 'voided' or 'committed')
end

local function lapse_confirms()
  local due = redis.call('ZRANGEBYSCORE', confirms_due, '-inf', text(now), 'LIMIT', 0, LAPSE_AT_ONCE)
  for _, id in ipairs(due) do
    local hold = read_hold(id)
    if hold and hold.status == 'confirming' then
      confirm(hold)
    else
      redis.call('ZREM', confirms_due, id)
    end
  end
  return #due
end
