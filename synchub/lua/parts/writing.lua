-- What is written: ledger and feed entries as things happen, states and head at the end.

local function publish(state, asof, at)
  local entry = {'XADD', feed, 'MAXLEN', '~', feed_max, text(state.seq) .. '-0', 'p', feed_seq, 'sku', state.sku,
    'answer', state.packed, 'asof', asof, 't', at}
  if state.whose then
    local agents = {}
    for agent in pairs(state.whose) do
      agents[#agents + 1] = agent
    end
    entry[#entry + 1], entry[#entry + 2] = 'whose', table.concat(agents, US)
    state.whose = nil
  end
  redis.call(unpack(entry))
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

local NO_MORE = {}

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

-- Takes the next sequence for what has become of a SKU; after the fields that every entry has may follow others.
local function append(state, place, account, item, field, from, to, version, cause, ...)
  seq = seq + 1
  redis.call('XADD', ledger, text(seq) .. '-0', 'sku', state.sku, 'loc', place, 'acc', account, 'item', item, 'field', field,
    'from', from, 'to', to, 'v', version, 'cause', cause, 'at', now, 'ats', state.ats, ...)
end

-- Gives the answer its next version, under the sequence of the last entry.
local function next_version(state)
  if state.ver == 0 then
    redis.call('ZADD', tag .. 'skus', 0, state.sku)
  end
  state.ver, state.seq, state.packed = state.ver + 1, seq, nil
  has_changed(state)
end

-- What a hold's change did to one SKU. Of several changes in one step that follow each other at once, readers need
-- only the last: the telling is left to publish_all.
local function emit_later(state, place, hold, from, to, cause, more)
  append(state, place, '', hold, 'hold', from, to, '', cause, unpack(more or NO_MORE))
  next_version(state)
  state.untold = true
  waiting = waiting + 1
  return seq
end

-- What a report did to one SKU, with another version of the answer where it differs. That is told at once, and after
-- all that waits to be told, because the feed has its entries in the order of their sequences.
local function emit(state, row, effect, differs, asof)
  local more = {unpack(effect.more or NO_MORE)}
  local function add(name, value)
    more[#more + 1], more[#more + 2] = name, value
  end
  if effect.ref then
    add('ref', effect.ref)
  end
  if row.version ~= '' then
    add('scale', row.scale .. text(row.resolution))
  end
  if state.joined then
    add('joined', table.concat(state.joined, RS))
    state.joined = nil
  end
  append(state, effect.place, row.account, row.item or '', effect.field, effect.from, effect.to, row.version, row.cause,
    unpack(more))
  state.packed = nil
  if differs then
    next_version(state)
    state.untold, state.packed = nil, answer_text(state)
    if waiting > 0 then
      publish_all()
    end
    publish(state, asof, row.at)
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
