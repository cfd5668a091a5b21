-- Asking the platform: which items are due to be fetched, and when.

local function fetch_now(row)
  if role_of(row.account).fetches then
    redis.call('ZADD', tag .. 'refetch:' .. row.account, text(now), row.item)
  end
end

local function fetch_later(row)
  if role_of(row.account).fetches then
    redis.call('ZADD', tag .. 'refetch:' .. row.account, 'NX', text(now + tonumber(confirm_after_ms)), row.item)
  end
end

local function fetched(row)
  local due = redis.call('ZSCORE', tag .. 'refetch:' .. row.account, row.item)
  if due and tonumber(due) <= row.at then
    redis.call('ZREM', tag .. 'refetch:' .. row.account, row.item)
  end
end
