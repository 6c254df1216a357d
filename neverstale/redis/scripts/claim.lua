-- claim: begin to establish registers that are unknown.
-- KEYS: registers. ARGV: nonce (16 hex), life of the claim in ms.
-- Whoever claims then asks MongoDB for the present cluster time and calls `establish`. If the registers
-- vanish in between (a flush, a restart), so does the claim: a paused claimant cannot bring back an old time.
-- Answers one letter for each, as one string: "c" claimed | "-" not ours to establish.
local answers = {}
for i, key in ipairs(KEYS) do
  if redis.call('SET', key, '?' .. ARGV[1] .. ':' .. '0000000000000000', 'NX', 'PX', ARGV[2]) then
    answers[i] = 'c'
  else
    answers[i] = '-'
  end
end
return table.concat(answers)
