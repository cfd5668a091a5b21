-- Takes one open sale out of the reckoning because a person says that it is settled.
--
-- Returns {'settled' | 'unknown' | 'closed', sequence}.
--
-- PARTS clock states accounts sources writing versions answers lines inclusion sales
-- KEYS head
-- ARGV tag run now_ms clock_kind epoch_if_new settle_memory_ms remember_ms feed_max name cause
-- FLAGS allow-oom

local function settle_sale()
  local line = line_named(name) or load_line(name)
  if not line then
    return {'unknown', 0}
  end
  if line.status == 's' or line.q == 0 then
    return {'closed', 0}
  end
  local state = load_sku(line.sku)
  local before = line.q - sum(line.gives)
  line.status = 's'
  drop_units(state, line)
  local at = record(state, {account = line.origin, item = line.id, version = '', cause = cause, at = now},
    {field = 'settled', place = '', from = text(before), to = '0', ref = line.id})
  return {'settled', at}
end

local result = settle_sale()
write_states()
write_head()
return result
