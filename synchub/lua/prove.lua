-- Judges whether a merchant's history is whole after its store was started anew, and gives it a new name when it is not.
--
-- What a process has seen is compared with where the history stood when the present run of the server was taken on: at
-- that moment, or now if nobody has taken it on yet. A head that is behind has lost its end. The name that it had is
-- remembered, so that whoever has seen the same loss later finds it dealt with. Whoever saw it grow after that was
-- with a server that had been replaced and did not know it: what was granted there is another loss.
-- After a loss nothing new is granted for a while, in which what was granted can be shown again; every SKU is looked at
-- anew; and whatever can be fetched is.
--
-- Returns what it found ('whole', 'taken_on', 'unproven', 'lost'), and epoch, sequence and feed sequence as they are then.
--
-- PARTS clock
-- KEYS head
-- ARGV tag run now_ms clock_kind epoch_if_new server seen_epoch seen_seq seen_ms written_epoch written_seq window_ms takes_on
-- FLAGS allow-oom

local NAMES_MAX = 16
local TAG_LENGTH = 8
local SKEW_MS = 1000 -- clocks of two machines differ by less
local due = tag .. 'due'
local told = redis.call('HMGET', head, 'run', 'run_seq', 'former')
local known_run, former = told[1] or '', told[3] or ''
-- Who would take the run on and comes too late may have seen more of it already.
local is_taken_on = takes_on == '1' and known_run == server
local stood_at = (server ~= '' and known_run == server) and tonumber(told[2] or '0') or seq

local function is_behind(named, reached, at)
  if named == '' then
    return false
  end
  if not stored_head[1] then
    return tonumber(reached) > 0
  end
  if named == epoch then
    return stood_at < tonumber(reached)
  end
  if not string.find(' ' .. former, ' ' .. named .. ' ', 1, true) then
    return true
  end
  return at > tonumber(stored_head[12] or '0') + SKEW_MS
end

local function remember(named)
  local names = {named}
  for name in string.gmatch(former, '[^ ]+') do
    if #names < NAMES_MAX and name ~= named then
      names[#names + 1] = name
    end
  end
  return table.concat(names, ' ') .. ' '
end

-- Under a name that another server may still use, ids of holds say which server has given them.
local function take_on(is_another_name)
  if server == '' then
    return
  end
  redis.call('HSET', head, 'run', server, 'run_seq', text(seq))
  if is_another_name then
    redis.call('HDEL', head, 'run_tag')
  else
    redis.call('HSET', head, 'run_tag', string.sub(server, 1, TAG_LENGTH))
  end
end

-- Everything that rests on what may be lost is to be looked at: by the reaper, so that no step takes long.
local function doubt_everything()
  redis.call('ZADD', due, text(now), 'e' .. US)
  local roles = redis.call('HGETALL', tag .. 'roles')
  for i = 1, #roles, 2 do
    local fetches = string.match(roles[i + 1], '^%a|%d+|%d+|%a|%a|([01])')
    if fetches == '1' then
      redis.call('ZADD', due, text(now), 'i' .. US .. roles[i] .. US .. '0')
    end
  end
end

local function rename(named)
  local before = stored_head[1] or named
  former = remember(before)
  if named ~= '' and named ~= before then
    former = remember(named)
  end
  epoch = epoch_if_new
  seq = seq + 1
  redis.call('XADD', ledger, text(seq) .. '-0', 'sku', '', 'loc', '', 'acc', '', 'item', '', 'field', 'epoch', 'from',
    before, 'to', epoch, 'v', '', 'cause', 'lost', 'at', text(now), 'ats', '')
  redis.call('HSET', head, 'former', former, 'frozen', text(now + tonumber(window_ms)), 'doubt', text(now))
  take_on(true)
  doubt_everything()
  write_head()
end

local outcome = 'whole'
if is_taken_on then
  outcome = 'whole'
elseif is_behind(seen_epoch, seen_seq, tonumber(seen_ms)) then
  outcome = 'lost'
  rename(seen_epoch)
elseif is_behind(written_epoch, written_seq, 0) then
  outcome = 'lost'
  rename(written_epoch)
elseif server ~= '' and known_run ~= server and redis.call('EXISTS', head) == 1 then
  outcome = 'unproven'
  if takes_on == '1' then
    outcome = 'taken_on'
    take_on(false)
  end
end
return {outcome, epoch, text(seq), text(feed_seq)}
