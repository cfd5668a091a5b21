-- Counts one request of an agent; returns 0, or in how many µs there is room for it.
-- PARTS rate
-- KEYS rate
-- ARGV interval_us burst
-- FLAGS allow-oom
local wait = take_token(rate, tonumber(interval_us), tonumber(burst))
write_tokens()
return wait
