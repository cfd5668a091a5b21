-- Reads the stored answers that several questions ask for, at one position; each question takes a token of its agent.
-- A question is its agent, the agent's interval and burst, the number of its SKUs, and these. Returns the position, the
-- watermarks, and for each question its answers, or in how many µs there is room for it.
--
-- PARTS rate
-- KEYS head watermarks
-- ARGV tag ... questions
-- FLAGS allow-oom

local told, known = {}, {}

local function answer_of(sku)
  local answer = known[sku]
  if answer == nil then
    answer = redis.call('HGET', tag .. 'sku:' .. sku, 'answer')
    known[sku] = answer
  end
  return answer
end

local at = rest_from + 1
while at <= #ARGV do
  local wait = take_token(tag .. 'rate:' .. ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]))
  local first, count = at + 4, tonumber(ARGV[at + 3])
  local answers = {}
  for i = 1, wait == 0 and count or 0 do
    answers[i] = answer_of(ARGV[first + i - 1])
  end
  told[#told + 1] = wait == 0 and answers or wait
  at = first + count
end
write_tokens()
return {redis.call('HMGET', head, 'epoch', 'seq', 'feed_seq'), redis.call('HGETALL', watermarks), told}
