-- Decides what reports of sources do to the stock of one merchant, and tells it: one atomic step.
--
-- Reads top-down: what is known, what a report may do, what follows for the SKU, what is written.
-- docs/stock-model.md states the rules; tests/support/reference_model.py states them again without this code.
--
-- KEYS head ledger feed skus roles locations watermarks parked
-- ARGV now_ms epoch_if_new sku_prefix items_prefix group_prefix refetch_prefix seen_prefix seen_days parked_max confirm_after_ms ledger_max feed_max ... rows
-- FLAGS allow-oom

local US = '\31' -- joins identifiers; none of them can contain it
local DAY_MS = 86400000
local DELTAS_MAX = 32
local PARKED_PER_ITEM_MAX = 256
local ROW = 16

local stored_head = redis.call('HMGET', head, 'epoch', 'seq', 'feed_seq', 'clock')
local seq = tonumber(stored_head[2] or '0')
local feed_seq = tonumber(stored_head[3] or '0')
local now = math.max(tonumber(stored_head[4] or '0'), tonumber(now_ms)) -- the merchant's clock never steps back

local function text(number)
  return string.format('%.0f', number)
end

-- What is known ------------------------------------------------------------------------------------------

local role_cache = {}

local function role_of(account)
  local role = role_cache[account]
  if not role then
    local stored = redis.call('HGET', roles, account) or 'C|0|0|p|p|0'
    local kind, rank, max_age, items, places, fetches = string.match(stored, '^(%a)|(%d+)|(%d+)|(%a)|(%a)|([01])$')
    role = {kind = kind, rank = tonumber(rank), max_age = tonumber(max_age), own_items = items == 's',
      own_places = places == 'm', fetches = fetches == '1',
      watermark = tonumber(redis.call('HGET', watermarks, account) or '0')}
    role_cache[account] = role
  end
  return role
end

local sku_cache = {}

local function sku_of(account, item)
  local name = account .. US .. item
  if sku_cache[name] == nil then
    local mapped = redis.call('HGET', items_prefix .. account, item)
    sku_cache[name] = mapped or (role_of(account).own_items and item) or false
  end
  return sku_cache[name]
end

local place_cache = {}

local function place_of(account, location)
  local name = account .. US .. location
  if place_cache[name] == nil then
    local mapped = redis.call('HGET', locations, name)
    place_cache[name] = mapped or (role_of(account).own_places and location) or false
  end
  return place_cache[name]
end

-- A source is kept as one packed list; its account, item and place are in the name of its field.
local function read_source(field, packed)
  local account, item, place = string.match(field, '^s\31([^\31]*)\31([^\31]*)\31(.*)$')
  local stored = cmsgpack.unpack(packed)
  local s = {field = field, account = account, item = item, place = place, status = stored[1], level = stored[2],
    scale = stored[3], v = stored[4], resolution = stored[5], read_at = stored[6], evidence = stored[7],
    pushed_at = stored[8], behind = stored[9], deltas = {}, folded_v = stored[11], folded_at = stored[12]}
  for i, delta in ipairs(stored[10]) do
    s.deltas[i] = {v = delta[1], at = delta[2], amount = delta[3]}
  end
  return s
end

local function write_source(s)
  local deltas = {}
  for i, delta in ipairs(s.deltas) do
    deltas[i] = {delta.v, delta.at, delta.amount}
  end
  return cmsgpack.pack({s.status, s.level, s.scale, s.v, s.resolution, s.read_at, s.evidence, s.pushed_at, s.behind,
    deltas, s.folded_v, s.folded_at})
end

local function write_deltas(deltas)
  local parts = {}
  for i, delta in ipairs(deltas) do
    parts[i] = delta.v .. ',' .. text(delta.at) .. ',' .. text(delta.amount)
  end
  return table.concat(parts, ';')
end

local function effect_text(s)
  local effect = s.status .. text(s.level)
  return #s.deltas == 0 and effect or effect .. '+' .. write_deltas(s.deltas)
end

local loaded = {}

local function load_sku(sku)
  local state = loaded[sku]
  if state then
    return state
  end
  state = {sku = sku, sources = {}, changed = {}, removed = {}, ver = 0, seq = 0, ats = 0, known = 0, gone = 0, cat = 'A',
    backorder = '0', substitutes = '', incoming = '', cells = '', by = '', degraded = 0}
  local fields = redis.call('HGETALL', sku_prefix .. sku)
  for i = 1, #fields, 2 do
    local field, value = fields[i], fields[i + 1]
    if field == 'answer' then
      local ver, at, ats, known, gone, cat, backorder, degraded, by, cells =
        string.match(value, '^(%d+)|(%d+)|(-?%d+)|([01])|([01])|(%a)|([01])|([01])|([^|]*)|(.*)$')
      state.ver, state.seq, state.ats = tonumber(ver), tonumber(at), tonumber(ats)
      state.known, state.gone, state.degraded = tonumber(known), tonumber(gone), tonumber(degraded)
      state.cat, state.backorder, state.by, state.cells = cat, backorder, by, cells
    elseif field == 'substitutes' or field == 'incoming' then
      state[field] = value
    else
      state.sources[field] = read_source(field, value)
    end
  end
  loaded[sku] = state
  return state
end

-- What read_answers.lua returns and feed entries carry; synchub/stock/rules.py reads it.
local function answer_text(state)
  return table.concat({text(state.ver), text(state.seq), text(state.ats), state.known, state.gone, state.cat,
    state.backorder, state.degraded, state.by, state.cells}, '|')
end

local function source_of(state, row, place)
  local field = 's' .. US .. row.account .. US .. row.item .. US .. place
  local s = state.sources[field]
  if not s then
    s = {field = field, account = row.account, item = row.item, place = place, status = 'U', level = 0, scale = '',
      v = '', resolution = 0, read_at = 0, evidence = 0, pushed_at = 0, behind = false, deltas = {}, folded_v = '',
      folded_at = 0, new = true}
  end
  return s
end

-- What follows for the SKU -------------------------------------------------------------------------------

local function contribution(s)
  if s.status ~= 'K' then
    return 0
  end
  local sum = s.level
  for _, delta in ipairs(s.deltas) do
    sum = sum + delta.amount
  end
  return sum
end

local function evidence_of(s)
  return math.max(s.evidence, role_of(s.account).watermark)
end

local function ranks_before(a, b)
  local rank_a, rank_b = role_of(a.account).rank, role_of(b.account).rank
  if rank_a ~= rank_b then
    return rank_a < rank_b
  end
  if a.account ~= b.account then
    return a.account < b.account
  end
  return a.item < b.item
end

-- The number of one cell: base, the source it rests on, and whether that is second best.
local function settle_cell(sources)
  local candidates, closed, unknown = {}, nil, false
  for _, s in ipairs(sources) do
    if s.status == 'K' then
      candidates[#candidates + 1] = s
    elseif s.status == 'C' or s.status == 'R' then
      if not closed or evidence_of(s) > evidence_of(closed) then
        closed = s
      end
    else
      unknown = true
    end
  end
  if #candidates == 0 then
    if unknown then
      return nil
    end
    return 0, closed, false
  end
  table.sort(candidates, ranks_before)
  local best, least = candidates[1], candidates[1]
  for i, s in ipairs(candidates) do
    if now - evidence_of(s) <= role_of(s.account).max_age then
      if i == 1 then
        return contribution(s), s, false
      end
      -- A lower rank may lower at once; it may not raise above what the better one last said.
      return math.min(contribution(s), contribution(best)), s, true
    end
    if contribution(s) < contribution(least) then
      least = s
    end
  end
  return contribution(least), least, true
end

-- By far the most SKUs have one source; this is `settle` for them.
local function settle_one(s)
  local evidence = evidence_of(s)
  return {ats = contribution(s), known = 1, gone = 0, by = s.account, asof = evidence,
    degraded = now - evidence <= role_of(s.account).max_age and 0 or 1, cells = text(s.evidence) .. ':' .. s.account}
end

local function settle(state)
  local field, s = next(state.sources)
  if field and next(state.sources, field) == nil and s.status == 'K' and role_of(s.account).kind == 'A' then
    return settle_one(s)
  end
  local cells, places, sources, removed = {}, {}, 0, 0
  local fields = {}
  for field in pairs(state.sources) do
    fields[#fields + 1] = field
  end
  table.sort(fields)
  for _, field in ipairs(fields) do
    local s = state.sources[field]
    sources = sources + 1
    if s.status == 'R' then
      removed = removed + 1
    end
    if role_of(s.account).kind == 'A' then
      if not cells[s.place] then
        cells[s.place] = {}
        places[#places + 1] = s.place
      end
      table.insert(cells[s.place], s)
    end
  end
  table.sort(places)
  local result = {ats = 0, known = 0, gone = (sources > 0 and removed == sources) and 1 or 0, by = '', degraded = 0}
  local picks, oldest = {}, math.huge
  for _, place in ipairs(places) do
    local base, chosen, second_best = settle_cell(cells[place])
    if base then
      result.known = 1
      result.ats = result.ats + base
      picks[#picks + 1] = text(chosen.evidence) .. ':' .. chosen.account
      if evidence_of(chosen) < oldest then
        oldest = evidence_of(chosen)
        result.by = chosen.account
      end
      if second_best then
        result.degraded = 1
      end
    end
  end
  result.cells = table.concat(picks, ';')
  result.asof = oldest == math.huge and 0 or oldest
  return result
end

-- What is written ----------------------------------------------------------------------------------------

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

-- Asking the platform ------------------------------------------------------------------------------------

local function fetch_now(row)
  if role_of(row.account).fetches then
    redis.call('ZADD', refetch_prefix .. row.account, text(now), row.item)
  end
end

local function fetch_later(row)
  if role_of(row.account).fetches then
    redis.call('ZADD', refetch_prefix .. row.account, 'NX', text(now + tonumber(confirm_after_ms)), row.item)
  end
end

local function fetched(row)
  local due = redis.call('ZSCORE', refetch_prefix .. row.account, row.item)
  if due and tonumber(due) <= row.at then
    redis.call('ZREM', refetch_prefix .. row.account, row.item)
  end
end

-- Ids counted before -------------------------------------------------------------------------------------

local today = math.floor(now / DAY_MS)

local function seen(row)
  local op = row.account .. US .. row.op
  for day = today, today - tonumber(seen_days), -1 do
    if redis.call('SISMEMBER', seen_prefix .. text(day), op) == 1 then
      return true
    end
  end
  return false
end

local function remember(row)
  local key = seen_prefix .. text(today)
  redis.call('SADD', key, row.account .. US .. row.op)
  redis.call('PEXPIRE', key, text((tonumber(seen_days) + 2) * DAY_MS), 'NX')
end

-- A version minus a resolution, both of up to 20 digits: exact where a double is not.
local function less(v, resolution)
  if v == '' or resolution == 0 then
    return v
  end
  local low = tonumber(string.sub(v, 11)) - resolution
  local high = tonumber(string.sub(v, 1, 10))
  while low < 0 do
    low, high = low + 10000000000, high - 1
  end
  return high < 0 and string.rep('0', 20) or string.format('%010.0f%010.0f', high, low)
end

-- Reads the row that starts at `start` of a list of strings.
local function read_row(list, start)
  local at = math.min(tonumber(list[start + 9]), now) -- nothing can have happened after the merchant's present
  local version, resolution = list[start + 7], tonumber(list[start + 8])
  return {start = start, kind = list[start], account = list[start + 1], item = list[start + 2],
    location = list[start + 3], status = list[start + 4], number = tonumber(list[start + 5]), scale = list[start + 6],
    version = version, resolution = resolution, version_less_resolution = less(version, resolution),
    at = at, evidence = math.min(tonumber(list[start + 10]), at), op = list[start + 11],
    cause = list[start + 12], sku = list[start + 13], group = list[start + 14], extra = list[start + 15]}
end

-- What a report may do -----------------------------------------------------------------------------------

-- A level includes the changes that came before it: by version where both have one, otherwise by arrival.
local function not_included(s, row, is_read)
  local kept = {}
  local included_to = row.version ~= '' and row.resolution == 0 and row.version or nil
  for _, delta in ipairs(s.deltas) do
    local included
    if delta.v ~= '' and row.version ~= '' then
      included = included_to and delta.v <= included_to or delta.v <= row.version_less_resolution
    else
      included = not is_read and delta.v == '' and delta.at <= row.at
    end
    if not (included or (is_read and delta.at < row.at)) then
      kept[#kept + 1] = delta
    end
  end
  return kept
end

-- Order of safety: a closed place offers nothing, and a number that is not known offers less than any.
local function offer(s)
  if s.status == 'K' then
    return contribution(s)
  end
  return (s.status == 'C' or s.status == 'R') and 0 or -math.huge
end

-- What a report does to the source's number. One that cannot be ordered may lower it and never raise it;
-- taking a level also takes the changes it includes, so these are compared with it.
local function direction(s, row, is_read)
  if s.status == 'U' then
    return 'higher'
  end
  local present = offer(s)
  local coming = offer({status = row.status, level = row.number, deltas = not_included(s, row, is_read)})
  if coming == present and row.status == s.status then
    return 'same'
  end
  return coming < present and 'lower' or 'higher'
end

local function is_repeated(s, row)
  return row.status == s.status and (row.status ~= 'K' or row.number == s.level)
end

local function take(s, row, is_read)
  s.deltas = not_included(s, row, is_read)
  s.status = row.status
  s.level = row.status == 'K' and row.number or 0
  s.evidence = math.max(s.evidence, row.evidence)
  s.behind = row.version == '' and s.v ~= ''
  if row.version ~= '' then
    s.scale, s.v, s.resolution = row.scale, row.version, row.resolution
  end
  if is_read then
    s.read_at = row.at
  else
    s.pushed_at = math.max(s.pushed_at, row.at)
  end
end

-- The newest version that the level includes: its own, or that of a change folded into it.
local function latest_version(s)
  return s.folded_v > s.v and s.folded_v or s.v
end

-- Judges a read: 'take', 'lower' (take, and ask again), 'same', 'ask', or an outcome that changes nothing.
local function judge_read(s, row)
  if row.at <= s.read_at then
    return 'superseded'
  end
  if row.version ~= '' and s.scale ~= '' and row.scale ~= s.scale then
    return 'scale_mixed'
  end
  local latest = latest_version(s)
  local versioned = row.version ~= '' and latest ~= ''
  if versioned and row.version < latest then
    return 'superseded'
  end
  -- A push or a change came in after this read had begun.
  local overtaken = math.max(s.pushed_at, s.folded_at) > row.at
  if not overtaken or (versioned and row.version > latest) then
    return 'take'
  end
  local leads = direction(s, row, true)
  return leads == 'same' and 'take' or leads == 'lower' and 'lower' or 'ask'
end

local function judge_push(s, row)
  if row.version == '' then
    if seen(row) then
      return 'duplicate'
    end
    remember(row) -- even if it comes too late: its repeat would come later still
  end
  if row.at <= s.read_at then
    return 'superseded'
  end
  if row.version == '' then
    local leads = direction(s, row, false)
    return leads == 'same' and 'take' or leads == 'lower' and 'confirm' or 'ask'
  end
  if s.scale ~= '' and row.scale ~= s.scale then
    return 'scale_mixed'
  end
  if row.version < latest_version(s) then
    return 'superseded'
  end
  if row.version == s.v then
    if is_repeated(s, row) then
      return 'duplicate'
    end
    return direction(s, row, false) == 'lower' and 'lower' or 'ask'
  end
  local unordered = s.behind or (s.v == '' and (s.read_at > 0 or s.pushed_at > 0))
  return (not unordered or direction(s, row, false) ~= 'higher') and 'take' or 'ask'
end

local function level(row, sku, place)
  local state = load_sku(sku)
  local s = source_of(state, row, place)
  local is_read = row.kind == 'R'
  if is_read then
    fetched(row)
  end
  if row.status == 'U' then
    if not is_read then -- a platform that has just been asked would say the same again
      fetch_now(row)
    end
    return 'refetch', 0
  end
  local verdict = is_read and judge_read(s, row) or not is_read and judge_push(s, row)
  if verdict == 'ask' then
    fetch_now(row)
    return 'refetch', 0
  end
  if verdict ~= 'take' and verdict ~= 'lower' and verdict ~= 'confirm' then
    return verdict, 0
  end
  if verdict == 'lower' then
    fetch_now(row)
  elseif verdict == 'confirm' then
    fetch_later(row)
  end
  local before = s.new and '' or effect_text(s)
  take(s, row, is_read)
  keep_source(state, s)
  local after = effect_text(s)
  if before == after then
    return 'unchanged', record(state, row, nil)
  end
  return 'applied', record(state, row, {field = 'level', place = place, from = before, to = after})
end

-- Old changes are folded into the level, so that a source that never sends levels stays bounded. Without
-- a level there is nothing to fold into: only one that includes the forgotten change will be taken.
local function fold_oldest(s)
  table.sort(s.deltas, function(a, b)
    if a.v ~= b.v then
      return a.v < b.v
    end
    if a.at ~= b.at then
      return a.at < b.at
    end
    return a.amount < b.amount
  end)
  while #s.deltas > DELTAS_MAX do
    local oldest = table.remove(s.deltas, 1)
    if s.status == 'K' then
      s.level = s.level + oldest.amount
    end
    -- Kept apart from what levels have said: a change that was long on its way must still count.
    s.folded_v = oldest.v > s.folded_v and oldest.v or s.folded_v
    s.folded_at = math.max(s.folded_at, oldest.at)
  end
end

local function delta(row, sku, place)
  if seen(row) then
    return 'duplicate', 0
  end
  local state = load_sku(sku)
  local s = source_of(state, row, place)
  if row.version ~= '' and s.scale ~= '' and row.scale ~= s.scale then
    return 'scale_mixed', 0
  end
  remember(row) -- even if a level has it already: its repeat would come after that level
  if row.version ~= '' and s.v ~= '' then
    if row.version <= less(s.v, s.resolution) then
      return 'superseded', 0
    end
    if row.version <= s.v and row.number >= 0 then
      fetch_now(row) -- the level may have counted it already
      return 'superseded', 0
    end
  end
  if row.at <= s.read_at then
    return 'superseded', 0
  end
  if row.version == '' and row.at <= s.pushed_at and row.number >= 0 then
    fetch_now(row) -- the level came in later and may have counted it
    return 'superseded', 0
  end
  local before = s.new and '' or effect_text(s)
  s.deltas[#s.deltas + 1] = {v = row.version, at = row.at, amount = row.number}
  if row.version ~= '' then
    s.scale = row.scale
  end
  fold_oldest(s)
  s.evidence = math.max(s.evidence, row.evidence)
  keep_source(state, s)
  return 'applied', record(state, row, {field = 'delta', place = place, from = before, to = effect_text(s)})
end

-- Waiting for a mapping ----------------------------------------------------------------------------------

local function wins(row, other)
  if row.status == 'U' or other.status == 'U' then
    return other.status == 'U' -- no number replaces none
  end
  if row.scale ~= '' and row.scale == other.scale and row.version ~= other.version then
    return row.version > other.version
  end
  if row.scale ~= '' and row.scale == other.scale then
    return offer({status = row.status, level = row.number, deltas = {}})
      < offer({status = other.status, level = other.number, deltas = {}})
  end
  return row.at > other.at
end

local function park(row)
  local member = row.account .. US .. row.item
  local key = parked .. ':' .. member
  local is_delta = row.kind == 'D'
  local field = is_delta and 'D' .. US .. row.location .. US .. row.op or 'L' .. US .. row.location
  local waiting = redis.call('HGET', key, field)
  if not redis.call('ZSCORE', parked, member) then
    if redis.call('ZCARD', parked) >= tonumber(parked_max) then
      return 'parked_full', 0
    end
    redis.call('ZADD', parked, text(row.at), member)
  elseif not waiting and redis.call('HLEN', key) >= PARKED_PER_ITEM_MAX then
    return 'parked_full', 0
  end
  if not waiting or (not is_delta and wins(row, read_row(cmsgpack.unpack(waiting), 1))) then
    redis.call('HSET', key, field, cmsgpack.pack(row.fields or {unpack(ARGV, row.start, row.start + ROW - 1)}))
  end
  if row.kind ~= 'R' then -- what a fetch has brought is not fetched again
    fetch_now(row)
  end
  return 'parked', 0
end

local function report(row)
  local sku, place = sku_of(row.account, row.item), place_of(row.account, row.location)
  if not sku or not place then
    return park(row)
  end
  if row.kind == 'D' then
    return delta(row, sku, place)
  end
  return level(row, sku, place)
end

local function release(account, item)
  local key = parked .. ':' .. account .. US .. item
  local fields = redis.call('HGETALL', key)
  local rows = {}
  for i = 1, #fields, 2 do
    local waiting = cmsgpack.unpack(fields[i + 1])
    local row = read_row(waiting, 1)
    row.fields = waiting
    if sku_of(account, item) and place_of(account, row.location) then
      row.field = fields[i]
      rows[#rows + 1] = row
    end
  end
  table.sort(rows, function(a, b)
    if a.at ~= b.at then
      return a.at < b.at
    end
    return a.field < b.field
  end)
  for _, row in ipairs(rows) do
    report(row)
    redis.call('HDEL', key, row.field)
  end
  if redis.call('EXISTS', key) == 0 then
    redis.call('ZREM', parked, account .. US .. item)
  end
end

-- What an item is ----------------------------------------------------------------------------------------

local function own_sources(state, account, item)
  local found = {}
  for field, s in pairs(state.sources) do
    if s.account == account and s.item == item then
      found[#found + 1] = field
    end
  end
  table.sort(found)
  return found
end

local function map_item(row)
  local before = sku_of(row.account, row.item)
  if before == row.sku then
    return
  end
  redis.call('HSET', items_prefix .. row.account, row.item, row.sku)
  sku_cache[row.account .. US .. row.item] = row.sku
  if not before then
    return
  end
  local state = load_sku(before)
  for _, field in ipairs(own_sources(state, row.account, row.item)) do
    local s = state.sources[field]
    state.sources[field], state.changed[field], state.removed[field] = nil, nil, true
    record(state, row, {field = 'status', place = s.place, from = effect_text(s), to = ''})
  end
  fetch_now(row)
end

local function remove_item(row, item)
  local sku = sku_of(row.account, item)
  local last = 0
  if sku then
    local state = load_sku(sku)
    for _, field in ipairs(own_sources(state, row.account, item)) do
      local s = state.sources[field]
      if s.status ~= 'R' then
        local before = effect_text(s)
        s.status, s.level, s.deltas = 'R', 0, {}
        keep_source(state, s)
        last = record(state, {account = row.account, item = item, version = '', cause = row.cause, at = row.at},
          {field = 'status', place = s.place, from = before, to = effect_text(s)})
      end
    end
  end
  if not role_of(row.account).own_items then
    redis.call('HDEL', items_prefix .. row.account, item)
    sku_cache[row.account .. US .. item] = nil
  end
  return last
end

local function describe(state)
  return state.cat .. state.backorder .. '|' .. state.substitutes .. '|' .. state.incoming
end

-- Status, back-order and the rest of the catalogue; 0 when nothing differs.
local function catalogue_change(row, sku)
  local state = load_sku(sku)
  local before, sold_before = describe(state), state.cat .. state.backorder
  if row.status == 'A' or row.status == 'D' then
    state.cat = row.status
  end
  if row.extra ~= '' then
    local extra = cjson.decode(row.extra)
    if extra.backorder ~= nil then
      state.backorder = extra.backorder and '1' or '0'
    end
    state.substitutes = extra.substitutes or state.substitutes
    state.incoming = extra.incoming or state.incoming
  end
  local after = describe(state)
  if before == after then
    return 0
  end
  state.answer_forced = sold_before ~= state.cat .. state.backorder
  state.described = true
  return record(state, row, {field = 'catalogue', place = '', from = before, to = after})
end

local function catalogue(row)
  if row.op ~= '' then
    if seen(row) then
      return 'duplicate', 0
    end
    remember(row) -- what an item is has no version: a repeat would bring back what has changed since
  end
  local last = 0
  if row.item == '' then
    local key = group_prefix .. row.account .. ':' .. row.group
    local members = redis.call('SMEMBERS', key)
    table.sort(members)
    for _, item in ipairs(members) do
      last = math.max(last, row.status == 'R' and remove_item(row, item) or 0)
    end
    if row.status == 'R' then
      redis.call('DEL', key)
    end
    return last > 0 and 'applied' or 'unchanged', last
  end
  if row.group ~= '' then
    redis.call('SADD', group_prefix .. row.account .. ':' .. row.group, row.item)
  end
  if row.status == 'R' then
    last = remove_item(row, row.item)
    return last > 0 and 'applied' or 'unchanged', last
  end
  if row.sku ~= '' then
    map_item(row)
  end
  local sku = sku_of(row.account, row.item)
  if not sku then
    return 'unchanged', 0
  end
  last = catalogue_change(row, sku)
  release(row.account, row.item)
  if last > 0 then
    return 'applied', last
  end
  return (row.sku ~= '' or row.status == '') and 'released' or 'unchanged', 0
end

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
