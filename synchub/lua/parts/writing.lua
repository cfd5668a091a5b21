-- What is written: ledger and feed entries as things happen, states and head at the end.

local function publish(state, asof, at)
  redis.call('XADD', feed, 'MAXLEN', '~', feed_max, text(state.seq) .. '-0', 'p', feed_seq, 'sku', state.sku,
    'answer', state.packed, 'asof', asof, 't', at)
  feed_seq = state.seq
end

-- The oldest evidence that the answer rests on, as it stands in its cells.
local function as_of(state)
  local oldest
  for _, cell in ipairs(cells_of(state)) do
    local mark = tonumber(redis.call('HGET', tag .. 'watermarks', cell.account) or '0')
    local at = math.max(tonumber(cell.evidence), mark)
    if not oldest or at < oldest then
      oldest = at
    end
  end
  return oldest or 0
end

local waiting = 0 -- answers whose telling was left for later

-- Tells the answers whose telling was left for later, under the sequences of their last changes.
local function publish_all()
  waiting = 0
  local untold = {}
  for _, state in pairs(dirty) do
    if state.untold then
      untold[#untold + 1] = state
    end
  end
  table.sort(untold, function(a, b) return a.seq < b.seq end)
  for _, state in ipairs(untold) do
    state.packed, state.untold = answer_text(state), nil
    publish(state, as_of(state), now)
  end
end

-- Takes the next sequence for an effect, and another version of the answer where it differs. Of several changes
-- in one step that follow each other at once, readers need only the last: `later` leaves the telling to publish_all.
-- What is told at once comes after all of them, because the feed has its entries in the order of their sequences.
local function emit(state, row, effect, differs, asof, later)
  seq = seq + 1
  local entry = {'XADD', ledger, text(seq) .. '-0', 'sku', state.sku, 'loc', effect.place, 'acc', row.account,
    'item', row.item or '', 'field', effect.field, 'from', effect.from, 'to', effect.to, 'v', row.version,
    'cause', row.cause, 'at', now, 'ats', state.ats}
  if effect.ref then
    entry[#entry + 1], entry[#entry + 2] = 'ref', effect.ref
  end
  redis.call(unpack(entry))
  if differs then
    if state.ver == 0 then
      redis.call('ZADD', tag .. 'skus', 0, state.sku)
    end
    state.ver = state.ver + 1
    state.seq = seq
    state.packed = not later and answer_text(state) or nil
    state.untold = later
    if later then
      waiting = waiting + 1
    else
      if waiting > 0 then
        publish_all()
      end
      publish(state, asof, row.at)
    end
  else
    state.packed = nil
  end
  has_changed(state)
  return seq
end

local function write_sums(state, fields)
  for kind, sums in pairs({o = state.open, h = state.located}) do
    for place, units in pairs(sums) do
      if units == 0 then
        redis.call('HDEL', sku_prefix .. state.sku, kind .. US .. place)
      else
        fields[#fields + 1] = kind .. US .. place
        fields[#fields + 1] = text(units)
      end
    end
  end
end

local function write_states()
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
    if state.sums_changed then
      write_sums(state, fields)
    end
    if state.aside_changed then
      fields[#fields + 1] = 'aside'
      fields[#fields + 1] = aside_text(state)
    end
    redis.call('HSET', sku_prefix .. sku, unpack(fields))
    for field in pairs(state.removed) do
      redis.call('HDEL', sku_prefix .. sku, field)
    end
  end
end
