-- Counts one request of an agent; returns 0, or in how many µs there is room for it.
-- PARTS rate
-- KEYS rate
-- ARGV interval_us burst
-- FLAGS allow-oom
return take_token(rate, tonumber(interval_us), tonumber(burst))
