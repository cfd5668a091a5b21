-- Where the next poll of an account begins, written in the step that applies the last changes of a page.
--
-- A page is asked for at a position and applied in one step or several. Each of them begins with the position that the
-- page was asked at, and stops there if somebody has gone on from it meanwhile, or if the history has another name:
-- what a worker that was away for long has in hand is then no news.

local cursors = tag .. 'cursors'

local left = {} -- accounts whose page is not to be applied any more
local troubled = {} -- accounts of which a change of this step was not taken in

-- What leaves a change outside: a position that moved past it would lose it.
local NOT_TAKEN_IN = {failed = true, scale_mixed = true, parked_full = true, nameless = true}

local function note_trouble(row, outcome)
  if NOT_TAKEN_IN[outcome] then
    troubled[row.account] = true
  end
end

local function is_left(row)
  return left[row.account] and row.kind ~= 'P'
end

-- How often it has moved, when it was last asked at, since when it is on its way, up to when everything has been told,
-- in which epoch that was, and the platform's own cursor.
local function position_of(account)
  local stored = redis.call('HGET', cursors, account) or '0|0|0|0||'
  local moves, asked, began, complete, known_in, cursor = string.match(stored, '^(%d+)|(%d+)|(%d+)|(%d+)|([^|]*)|(.*)$')
  return {moves = tonumber(moves), asked = tonumber(asked), began = tonumber(began), complete = tonumber(complete),
    epoch = known_in, cursor = cursor}
end

local function is_present(row, known)
  return row.number == known.moves and row.sku == epoch and redis.call('HEXISTS', tag .. 'roles', row.account) == 1
end

local function move_position(row, known)
  local complete = math.max(known.complete, row.evidence)
  redis.call('HSET', cursors, row.account, table.concat({text(known.moves + 1), text(row.at), row.extra, text(complete),
    epoch, row.group}, '|'))
  return 'applied', 0
end

-- Status G guards what follows; any other moves on.
local function position(row)
  local known = position_of(row.account)
  if row.status == 'G' then
    left[row.account] = not is_present(row, known)
    return left[row.account] and 'superseded' or 'unchanged', 0
  end
  if row.number + 1 == known.moves and row.group == known.cursor and row.sku == known.epoch then
    return 'duplicate', 0 -- this very page, told again because its answer was lost
  end
  if not is_present(row, known) then
    return 'superseded', 0
  end
  if troubled[row.account] then
    return 'held_back', 0
  end
  return move_position(row, known)
end
