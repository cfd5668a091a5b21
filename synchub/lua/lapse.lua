-- Lets time pass for one merchant: everything that changes by itself becomes an event.
--
-- Returns how much was due and worked off, and how much of it is still due; call again while some is. Besides the
-- time, the head, and until when the merchant is frozen.
--
-- PARTS clock states accounts sources writing versions answers fetching lines inclusion sales holds selling
-- KEYS head
-- ARGV tag run now_ms clock_kind epoch_if_new settle_memory_ms remember_ms names_ms feed_max limit
-- FLAGS allow-oom

local due = tag .. 'due'

local function row_because(cause)
  return {account = '', item = '', version = '', cause = cause, at = now}
end

local function look(sku, cause)
  local state = load_sku(sku)
  state.turns, state.aside_changed = 0, true
  record(state, row_because(cause), nil)
end

-- The SKUs that an account's silence had made stale; as many at once as there is room for.
local function refresh(account)
  local role = role_of(account)
  local stale, reviving = tag .. 'stale:' .. account, tag .. 'reviving:' .. account
  if now - role.watermark > math.max(role.max_age, general().slow_age) then
    return
  end
  -- A SKU that is stale all the same notes itself again; it is not looked at twice for one watermark.
  if redis.call('EXISTS', reviving) == 0 and redis.call('EXISTS', stale) == 1 then
    redis.call('RENAME', stale, reviving)
  end
  for _, sku in ipairs(redis.call('SPOP', reviving, limit)) do
    look(sku, 'watermark')
  end
  if redis.call('EXISTS', reviving) == 1 then
    redis.call('ZADD', due, text(now), 'w' .. US .. account)
  end
end

local function forget_line(line)
  for _, name in ipairs(line.names) do
    redis.call('HDEL', names, name)
    if order_in(name) then
      redis.call('SREM', order_in(name), line.id)
    end
  end
  redis.call('HDEL', lines, line.id)
end

-- A sale that every source contains needs no place among the open ones; its names are kept longer.
local function retire(id)
  local line = load_line(id)
  if not line then
    return
  end
  if line.retired then
    return forget_line(line)
  end
  local state = load_sku(line.sku)
  if line.q > 0 and line.status ~= 'h' and not is_included_by_all(state, line) then
    return retire_later(line, DAY_MS) -- overdue; a person may settle it
  end
  drop_units(state, line)
  record(state, row_because('retired'), nil)
  line.retired = true
  save_line(line)
  retire_later(line, tonumber(names_ms))
end

-- After a loss every SKU is looked at anew, and all that can be fetched is.
local function doubt(after)
  local found = redis.call('ZRANGEBYLEX', tag .. 'skus', after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, limit)
  for _, sku in ipairs(found) do
    for _, s in pairs(load_sku(sku).sources) do
      fetch_now(s)
    end
    look(sku, 'doubt')
  end
  if #found == tonumber(limit) then
    redis.call('ZADD', due, text(now), 'e' .. US .. found[#found])
  end
end

-- The same for items that are mapped and not reported yet, as far as the store knows.
local function doubt_items(member)
  local account, cursor = string.match(member, '^([^\31]*)\31(%d+)$')
  local page = redis.call('HSCAN', tag .. 'items:' .. account, cursor, 'COUNT', limit)
  for i = 1, #page[2], 2 do
    fetch_now({account = account, item = page[2][i]})
  end
  if page[1] ~= '0' then
    redis.call('ZADD', due, text(now), 'i' .. US .. account .. US .. page[1])
  end
end

-- Something was decided of an account (or, without a name, of all): the SKUs that it concerns are settled anew, and
-- what its sources contain of sales is found out again.
local function settle_anew(member)
  local account, after = string.match(member, '^([^\31]*)\31(.*)$')
  local found = redis.call('ZRANGEBYLEX', tag .. 'skus', after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, limit)
  for _, sku in ipairs(found) do
    local state, concerned = load_sku(sku), account == ''
    for _, s in pairs(state.sources) do
      if s.account == account then
        concerned = true
        rejoin(state, s)
      end
    end
    if concerned then
      look(sku, 'decided')
    end
  end
  if #found == tonumber(limit) then
    redis.call('ZADD', due, text(now), 'a' .. US .. account .. US .. found[#found])
  end
end

local VERBS = {
  a = settle_anew,
  e = doubt,
  i = doubt_items,
  f = function(sku) look(sku, 'time') end,
  w = refresh,
  p = retire,
  m = function(id) redis.call('HDEL', holds, id) end,
}

local count = lapse_holds() + lapse_confirms()
for _, member in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', text(now), 'LIMIT', 0, limit)) do
  redis.call('ZREM', due, member)
  VERBS[string.sub(member, 1, 1)](string.sub(member, 3))
  count = count + 1
end
publish_all()
write_states()
write_head()
local left = 0
for _, set in ipairs({due, holds_due, confirms_due}) do
  left = left + redis.call('ZCOUNT', set, '-inf', text(now))
end
return {count, left, text(now), epoch, text(seq), text(frozen_until)}
