-- What a report may do to its source: levels pushed or read, and changes.

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
    return s.level + moved_by(s)
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
  s.lower_v, s.lower_at = '', 0
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
  if row.at < s.read_at then
    return 'superseded'
  end
  if row.version ~= '' and s.scale ~= '' and row.scale ~= s.scale then
    return 'scale_mixed'
  end
  local latest = latest_version(s)
  local versioned = row.version ~= '' and latest ~= ''
  -- A push or a change came in after this read had begun, or another read did; within one millisecond nobody knows.
  local overtaken = math.max(s.pushed_at, s.folded_at, s.read_at) >= row.at
  if versioned and row.version < latest then
    if overtaken then
      return 'superseded'
    end
    -- The source itself is back at an older version: believed when a second read says so.
    if s.lower_v ~= '' and row.at > s.lower_at and row.version >= s.lower_v then
      return 'reset'
    end
    return 'regressed'
  end
  if not overtaken or (versioned and row.version > latest) then
    return 'take'
  end
  local leads = direction(s, row, true)
  return leads == 'same' and 'take' or leads == 'lower' and 'lower' or 'ask'
end

-- Whether the level arrived in the midst of changes that have become one: it includes some of them.
local function is_torn(s, row)
  for _, delta in ipairs(s.deltas) do
    if delta.since and delta.v == '' and delta.since <= row.at and row.at < delta.at then
      return true
    end
  end
  return false
end

local function judge_push(s, row)
  if row.version == '' then
    if seen(row) then
      return 'duplicate'
    end
    remember(row) -- even if it comes too late: its repeat would come later still
  end
  if row.at < s.read_at then
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
  if is_torn(s, row) then
    return direction(s, row, false) ~= 'higher' and 'lower' or 'ask'
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
  if verdict == 'regressed' then
    s.lower_v, s.lower_at = row.version, row.at
    keep_source(state, s)
    fetch_later(row)
    return 'superseded', 0
  end
  if verdict == 'duplicate' and not s.new then
    absorb(state, s) -- the same level says again what it contains
    local at = record(state, row, nil)
    return at > 0 and 'unchanged' or 'duplicate', at
  end
  if verdict == 'reset' then
    begin_anew(s)
    s.folded_v = ''
  elseif verdict ~= 'take' and verdict ~= 'lower' and verdict ~= 'confirm' then
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
  absorb(state, s)
  local after = effect_text(s)
  if before == after then
    return 'unchanged', record(state, row, nil)
  end
  return 'applied', record(state, row, {field = 'level', place = place, from = before, to = after})
end

-- The oldest changes become one, so that a source that never sends levels stays bounded. The level stays as it was
-- told: a delivery of it that is handled again must be known again.
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
    local next = s.deltas[1]
    s.deltas[1] = {v = next.v > oldest.v and next.v or oldest.v, at = math.max(next.at, oldest.at),
      amount = next.amount + oldest.amount, since = math.min(next.since or next.at, oldest.since or oldest.at)}
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
  if row.at < s.read_at then
    return 'superseded', 0
  end
  local told_at = row.version == '' and math.max(s.pushed_at, s.read_at) or s.read_at
  if row.at <= told_at and row.number >= 0 then
    fetch_now(row) -- the level came in later, or was being read just then, and may have counted it
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
  absorb(state, s)
  return 'applied', record(state, row, {field = 'delta', place = place, from = before, to = effect_text(s)})
end
