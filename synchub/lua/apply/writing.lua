-- What is written: ledger and feed entries as rows are applied, states and head at the end.

local dirty = {}

local function publish(state, row, result)
  redis.call('XADD', feed, 'MAXLEN', '~', feed_max, text(seq) .. '-0', 'p', feed_seq, 'sku', state.sku,
    'answer', state.packed, 'asof', result.asof, 't', row.at)
  feed_seq = seq
end

-- Records what one row did to one SKU. `effect` is nil when only evidence moved.
local function record(state, row, effect)
  local result = settle(state)
  local differs = state.ver == 0 or state.answer_forced or state.ats ~= result.ats or state.known ~= result.known
    or state.gone ~= result.gone or state.degraded ~= result.degraded
  state.answer_forced = false
  if state.cells ~= result.cells or state.by ~= result.by then
    state.cells, state.by, state.packed = result.cells, result.by, nil
  end
  dirty[state.sku] = state
  if not effect and (state.ver == 0 or not differs) then
    return 0
  end
  seq = seq + 1
  effect = effect or {field = 'answer', place = '', from = '', to = ''}
  redis.call('XADD', ledger, 'MAXLEN', '~', ledger_max, text(seq) .. '-0', 'sku', state.sku, 'loc', effect.place,
    'acc', row.account, 'item', row.item or '', 'field', effect.field, 'from', effect.from, 'to', effect.to,
    'v', row.version, 'cause', row.cause, 'at', now, 'ats', result.ats)
  if differs then
    if state.ver == 0 then
      redis.call('ZADD', skus, 0, state.sku)
    end
    state.ver = state.ver + 1
    state.seq = seq
    state.ats, state.known, state.gone = result.ats, result.known, result.gone
    state.by, state.degraded = result.by, result.degraded
    state.packed = answer_text(state)
    publish(state, row, result)
  end
  return seq
end

local function keep_source(state, s)
  s.new = nil
  state.sources[s.field] = s
  state.changed[s.field] = s
  state.removed[s.field] = nil
end

local function write_back()
  for sku, state in pairs(dirty) do
    local fields = {'answer', state.packed or answer_text(state)}
    for field, s in pairs(state.changed) do
      fields[#fields + 1] = field
      fields[#fields + 1] = write_source(s)
    end
    if state.described then
      fields[#fields + 1] = 'substitutes'
      fields[#fields + 1] = state.substitutes
      fields[#fields + 1] = 'incoming'
      fields[#fields + 1] = state.incoming
    end
    redis.call('HSET', sku_prefix .. sku, unpack(fields))
    for field in pairs(state.removed) do
      redis.call('HDEL', sku_prefix .. sku, field)
    end
  end
  redis.call('HSET', head, 'epoch', stored_head[1] or epoch_if_new, 'seq', text(seq), 'feed_seq', text(feed_seq),
    'clock', text(now))
end
