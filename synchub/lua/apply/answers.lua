-- What follows for a SKU from all its sources: rank, freshness, and the sum of its locations.

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
