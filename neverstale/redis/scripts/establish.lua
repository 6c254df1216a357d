-- establish: give claimed registers the present cluster time, or what was raised meanwhile if that is higher.
-- KEYS: registers. ARGV: nonce (16 hex), version.
-- Answers one letter for each, as one string: "e" established | "-" the claim is gone.
local answers = {}
for i, key in ipairs(KEYS) do
  local held = redis.call('GET', key)
  answers[i] = '-'
  if held and string.sub(held, 1, 18) == '?' .. ARGV[1] .. ':' then
    local raised = string.sub(held, 19, 34)
    redis.call('SET', key, raised > ARGV[2] and raised or ARGV[2])
    answers[i] = 'e'
  end
end
return table.concat(answers)
