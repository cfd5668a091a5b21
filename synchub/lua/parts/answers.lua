-- What follows for a SKU from all its sources: rank, freshness, and the sum of its locations.

local function moved_by(s)
  local sum = 0
  for _, delta in ipairs(s.deltas) do
    sum = sum + delta.amount
  end
  return sum
end

-- Units sold at a source's place that its level does not contain yet; all of them until that has been found out.
local function pending(state, s)
  return (state.open[s.place] or 0) - (s.joined and s.included or 0)
end

-- What the source says can be sold: its level and later changes, less the sales it has not seen.
local function contribution(state, s)
  if s.members then
    local sum = 0
    for _, member in ipairs(s.members) do
      sum = sum + contribution(state, member)
    end
    return sum
  end
  if s.status ~= 'K' then
    return -pending(state, s)
  end
  return s.level + moved_by(s) - pending(state, s)
end

local function evidence_of(s)
  return math.max(s.evidence, role_of(s.account).watermark)
end

-- How often a SKU's number moves, by day: today's movements, and of yesterday's those that are less than a day ago.
local FAST_A_DAY, SLOW_A_DAY = 48, 2

local function note_movement(state)
  local today = math.floor(now / DAY_MS)
  if state.measured_from == 0 then
    state.measured_from = now
  end
  if state.moved_on ~= today then
    state.moved_before = state.moved_on == today - 1 and state.moved or 0
    state.moved, state.moved_on = 0, today
  end
  state.moved = state.moved + 1
  state.aside_changed = true
end

local function pace_of(state)
  local left = 1 - (now % DAY_MS) / DAY_MS
  local today = math.floor(now / DAY_MS)
  if state.moved_on == today then
    return state.moved + state.moved_before * left
  end
  return state.moved_on == today - 1 and state.moved * left or 0
end

-- How old the evidence may be: less for a SKU that sells fast, more for one that was seen for a day to sell slowly.
local function max_age_of(state, s)
  local own = role_of(s.account).max_age
  if general().fast_age == 0 then
    return own
  end
  local pace = pace_of(state)
  if pace >= FAST_A_DAY then
    return general().fast_age
  end
  local is_known = state.measured_from > 0 and now - state.measured_from >= DAY_MS
  return is_known and pace <= SLOW_A_DAY and general().slow_age or own
end

-- The last moment at which the source's evidence counts as fresh. Of what came before the store lost something
-- nobody knows what came after it, whatever the account has said of itself since.
local function fresh_until(state, s)
  if s.evidence < doubted_until then
    return -1
  end
  return evidence_of(s) + max_age_of(state, s)
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

-- Items of one account whose numbers a person wants added count as one source, as fresh as the oldest of them.
local function pooled(state, sources)
  local found, sums = {}, {}
  for _, s in ipairs(sources) do
    if s.status == 'U' or s.status == 'T' or decision_on(s.account, state.sku, s.place) ~= 'sum' then
      found[#found + 1] = s
    else
      local sum = sums[s.account]
      if not sum then
        sum = {field = s.field, account = s.account, item = s.item, place = s.place, status = s.status, members = {}}
        sums[s.account] = sum
        found[#found + 1] = sum
      end
      sum.members[#sum.members + 1] = s
      if s.status == 'K' or sum.status ~= 'K' then
        sum.evidence = sum.status == s.status and sum.evidence and math.min(sum.evidence, s.evidence) or s.evidence
        sum.status = s.status
      end
    end
  end
  return found
end

-- The number of one cell, the source it rests on, and how good that is: 'fresh', 'second' or 'stale'.
local function settle_cell(state, sources)
  local candidates, closed, unknown = {}, nil, false
  for _, s in ipairs(#sources > 1 and pooled(state, sources) or sources) do
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
    return contribution(state, closed), closed, 'closed'
  end
  table.sort(candidates, ranks_before)
  local best, least = candidates[1], candidates[1]
  for i, s in ipairs(candidates) do
    if now <= fresh_until(state, s) then
      if i == 1 then
        return contribution(state, s), s, 'fresh'
      end
      if general().trusts then
        return contribution(state, s), s, 'second', best
      end
      -- A lower rank may lower at once; it may not raise above what the better one last said.
      return math.min(contribution(state, s), contribution(state, best)), s, 'second', best
    end
    if contribution(state, s) < contribution(state, least) then
      least = s
    end
  end
  return contribution(state, least), least, 'stale', best
end

local function lag_of(asof)
  if lag_step == 0 or asof == 0 then
    return 0
  end
  return math.min(100, math.max(0, math.floor((now - asof - lag_grace) / lag_step)))
end

-- When the lag takes its next step, if that is before `turns`.
local function next_lag(result)
  if lag_step > 0 and result.asof > 0 and result.lag < 100 then
    result.turns = math.min(result.turns, result.asof + lag_grace + (result.lag + 1) * lag_step)
  end
  return result
end

local NOBODY = {}

-- A total is no number of its own where anybody counts one of its places: it would count the same units again.
local function without_totals(places, by_place)
  local known, kept = {}, {}
  for _, place in ipairs(places) do
    for _, s in ipairs(by_place[place]) do
      known[place] = known[place] or s.status == 'K'
    end
  end
  for _, place in ipairs(places) do
    local is_counted = true
    for _, other in ipairs(places) do
      is_counted = is_counted and not (known[other] and is_total_of(place, other))
    end
    kept[#kept + 1] = is_counted and place or nil
  end
  return kept
end

-- By far the most SKUs have one source and nothing sold elsewhere; this is `settle` for them.
local function settle_one(state, s)
  local evidence, until_ms = evidence_of(s), fresh_until(state, s)
  local is_fresh = now <= until_ms
  local base, held = contribution(state, s), state.located[s.place] or 0
  local cell = {evidence = text(s.evidence), account = s.account, base = base, place = s.place, held = held}
  return next_lag({total = base, known = 1, gone = 0, by = s.account, degraded = is_fresh and 0 or 1,
    stale = is_fresh and 0 or 1, turns = is_fresh and until_ms + 1 or math.huge,
    waits_for = is_fresh and NOBODY or {s.account}, list = {cell},
    cells = table.concat({cell.evidence, s.account, text(base), s.place, text(held)}, US) .. RS,
    asof = evidence, lag = lag_of(evidence)})
end

local function settle(state)
  local only, s = next(state.sources)
  if only and next(state.sources, only) == nil and s.status == 'K' and role_of(s.account).kind == 'A' then
    local place = next(state.open)
    if place == nil or (place == s.place and next(state.open, place) == nil) then
      return settle_one(state, s)
    end
  end
  local by_place, places, sources, removed = {}, {}, 0, 0
  for _, s in pairs(state.sources) do
    sources = sources + 1
    if s.status == 'R' then
      removed = removed + 1
    end
    if role_of(s.account).kind == 'A' then
      if not by_place[s.place] then
        by_place[s.place] = {}
        places[#places + 1] = s.place
      end
      table.insert(by_place[s.place], s)
    end
  end
  table.sort(places)
  -- Removed by all that had it, or called something else by now.
  local is_gone = removed == sources and (sources > 0 or state.is_left)
  local result = {total = 0, known = 0, gone = is_gone and 1 or 0, by = '', degraded = 0, stale = 0,
    turns = math.huge, waits_for = {}}
  local list, counted, oldest = {}, {}, math.huge
  for _, place in ipairs(#places > 1 and without_totals(places, by_place) or places) do
    table.sort(by_place[place], function(a, b) return a.field < b.field end)
    local base, chosen, how, better = settle_cell(state, by_place[place])
    if base then
      counted[place] = true
      result.known = 1
      result.total = result.total + base
      list[#list + 1] = {evidence = text(chosen.evidence), account = chosen.account, base = base, place = place,
        held = state.located[place] or 0}
      if evidence_of(chosen) < oldest then
        oldest = evidence_of(chosen)
        result.by = chosen.account
      end
      if how == 'stale' then
        result.stale, result.degraded = 1, 1
      elseif how == 'second' then
        result.degraded = 1
      end
      if how == 'fresh' or how == 'second' then
        result.turns = math.min(result.turns, fresh_until(state, chosen) + 1)
      end
      if better then
        result.waits_for[#result.waits_for + 1] = better.account
      end
    end
  end
  -- What is sold where nothing is known is still owed.
  for place, units in pairs(state.open) do
    if not counted[place] then
      local owed = by_place[place] and 0 or units
      for _, s in ipairs(by_place[place] or {}) do
        owed = math.max(owed, pending(state, s))
      end
      result.total = result.total - owed
    end
  end
  result.list, result.cells = list, pack_cells(list)
  result.asof = oldest == math.huge and 0 or oldest
  result.lag = lag_of(result.asof)
  return next_lag(result)
end

-- The quantity that per cent are taken of: what there was after the last receipt, or at the day's beginning.
local function refer(state, row, result)
  local today = math.floor(now / DAY_MS)
  local is_report = row.kind == 'L' or row.kind == 'R' or row.kind == 'D'
  if state.known == 0 or state.ref_day ~= today or (is_report and result.total > state.ats + state.held) then
    state.aside_changed = state.aside_changed or state.ref_day ~= today
    state.ref_day = today
    return math.max(0, result.total)
  end
  return state.ref
end

-- Has the reaper look again when this answer would change by itself.
local function look_again(state, result)
  if result.turns < math.huge and (state.turns == 0 or result.turns < state.turns) then
    redis.call('ZADD', tag .. 'due', text(result.turns), 'f' .. US .. state.sku)
    state.turns, state.aside_changed = result.turns, true
  end
  for _, account in ipairs(result.waits_for) do
    redis.call('SADD', tag .. 'stale:' .. account, state.sku)
  end
end

-- Records what one row did to one SKU. `effect` is nil when only evidence or time moved.
local function record(state, row, effect)
  if effect and (effect.field == 'level' or effect.field == 'delta') and general().fast_age > 0 then
    note_movement(state)
  end
  local result = settle(state)
  local ref = result.known == 1 and refer(state, row, result) or state.ref
  local ats = result.total - state.held
  local differs = state.ver == 0 or state.answer_forced or state.ats ~= ats or state.known ~= result.known
    or state.gone ~= result.gone or state.degraded ~= result.degraded or state.stale ~= result.stale
    or state.lag ~= result.lag or state.ref ~= ref
  state.answer_forced = false
  if state.cells ~= result.cells or state.by ~= result.by then
    state.cells, state.cell_list, state.by, state.packed = result.cells, result.list, result.by, nil
  end
  has_changed(state)
  look_again(state, result)
  if not effect and (state.ver == 0 or not differs) then
    return 0
  end
  state.ats, state.known, state.gone, state.ref = ats, result.known, result.gone, ref
  state.degraded, state.stale, state.lag = result.degraded, result.stale, result.lag
  return emit(state, row, effect or {field = 'answer', place = '', from = '', to = ''}, differs, result.asof)
end
