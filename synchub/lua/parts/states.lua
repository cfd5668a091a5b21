-- The state of a SKU: its answer, its sources, and what of it is sold and held.

local sku_prefix = tag .. 'sku:'
local loaded = {}
local dirty = {}

local function read_answer(state, packed)
  local ver, at, ats, held, known, gone, cat, backorder, degraded, stale, lag, ref, by, cells = string.match(packed,
    '^(%d+)|(%d+)|(-?%d+)|(%d+)|([01])|([01])|(%a)|([01])|([01])|([01])|(%d+)|(-?%d+)|([^|]*)|(.*)$')
  state.ver, state.seq, state.ats, state.held = tonumber(ver), tonumber(at), tonumber(ats), tonumber(held)
  state.known, state.gone, state.degraded, state.stale = tonumber(known), tonumber(gone), tonumber(degraded), tonumber(stale)
  state.lag, state.ref = tonumber(lag), tonumber(ref)
  state.cat, state.backorder, state.by, state.cells = cat, backorder, by, cells
end

local function new_state(sku)
  return {sku = sku, sources = {}, open = {}, located = {}, changed = {}, removed = {}, ver = 0, seq = 0, ats = 0,
    held = 0, known = 0, gone = 0, cat = 'A', backorder = '0', substitutes = '', incoming = '', cells = '', by = '',
    degraded = 0, stale = 0, lag = 0, ref = 0, turns = 0, ref_day = 0, moved_on = 0,
    moved = 0, moved_before = 0, measured_from = 0}
end

-- Enough to hold and to give back: what a source has said is not looked at.
local function load_answer(sku)
  local state = loaded[sku]
  if not state then
    state = new_state(sku)
    local packed = redis.call('HGET', sku_prefix .. sku, 'answer')
    if packed then
      read_answer(state, packed)
    end
    loaded[sku] = state
  end
  return state
end

-- The cells that the answer counts, as a list.
local function cells_of(state)
  if not state.cell_list then
    local list = {}
    for evidence, account, base, place, held in
      string.gmatch(state.cells, '(%d+)\31([^\31]*)\31(-?%d+)\31([^\31]*)\31(%d+)\30') do
      list[#list + 1] = {evidence = evidence, account = account, base = tonumber(base), place = place,
        held = tonumber(held)}
    end
    state.cell_list = list
  end
  return state.cell_list
end

local function pack_cells(list)
  local parts = {}
  for i, cell in ipairs(list) do
    parts[i] = table.concat({cell.evidence, cell.account, text(cell.base), cell.place, text(cell.held)}, US) .. RS
  end
  return table.concat(parts)
end

local function change_cell(state, place, base, held)
  for _, cell in ipairs(cells_of(state)) do
    if cell.place == place then
      cell.base, cell.held = cell.base + base, cell.held + held
    end
  end
  state.cells = pack_cells(state.cell_list)
end

-- What read_answers.lua returns and feed entries carry; synchub/stock/rules.py reads it.
local function answer_text(state)
  return table.concat({text(state.ver), text(state.seq), text(state.ats), text(state.held), state.known, state.gone,
    state.cat, state.backorder, state.degraded, state.stale, text(state.lag), text(state.ref), state.by, state.cells},
    '|')
end

-- What is kept of a SKU beside its answer and its sources.
local function aside_text(state)
  local kept = text(state.turns) .. '|' .. text(state.ref_day) .. '|' .. (state.is_left and '1' or '0')
  if state.measured_from == 0 then
    return kept
  end
  return table.concat({kept, text(state.moved_on), text(state.moved), text(state.moved_before),
    text(state.measured_from)}, '|')
end

local function read_aside(state, kept)
  local turns, day, left, rest = string.match(kept, '^(%d+)|(%d+)|?([01]?)|?(.*)$')
  state.turns, state.ref_day, state.is_left = tonumber(turns), tonumber(day), left == '1'
  local on, moved, before, from = string.match(rest, '^(%d+)|(%d+)|(%d+)|(%d+)$')
  if on then
    state.moved_on, state.moved, state.moved_before = tonumber(on), tonumber(moved), tonumber(before)
    state.measured_from = tonumber(from)
  end
end

local function has_changed(state)
  dirty[state.sku] = state
end

-- Units of open sales at a place, and of holds that name it. A state whose other fields are not loaded
-- is changed where it lies.
local function add_to(state, kind, place, units)
  if state.is_whole then
    local sums = kind == 'o' and state.open or state.located
    sums[place] = (sums[place] or 0) + units
    state.sums_changed = true
  else
    redis.call('HINCRBY', sku_prefix .. state.sku, kind .. US .. place, text(units))
  end
end
