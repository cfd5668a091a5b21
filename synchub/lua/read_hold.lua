-- Reads a hold with the merchant's present; one that is over is over, whether or not anybody has said so yet.
-- PARTS clock
-- KEYS head
-- ARGV tag run now_ms clock_kind epoch_if_new id
-- FLAGS no-writes
return {redis.call('HGET', tag .. 'holds', id) or '', text(now)}
