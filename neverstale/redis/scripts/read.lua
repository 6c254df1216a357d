-- Add reads to a resource's most-read documents: one more halves in weight with every half-life that passes.
--
-- KEYS  1 sorted set: document -> weight of its reads   2 hash: since when weights are counted, and the half-life
-- ARGV  1 half-life in ms   2 most documents   then pairs: document, reads
-- Answers what a read weighs now. Whoever only asks, and names no document, changes nothing: the half-life is that of
-- those who count.
--
-- A read that came t after the beginning weighs 2^(t / half-life), and nothing that is there need be touched to decay.
-- Long before that is too large for a double all weights are divided, and the beginning moves.
local half_life, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local since = tonumber(redis.call('HGET', KEYS[2], 'since') or '')
if since and not (since > 0 and since <= now + 1000) then
  since = nil -- somebody else's number
end
if #ARGV == 2 then
  local held = tonumber(redis.call('HGET', KEYS[2], 'half_life') or '')
  half_life = held and held > 0 and held or half_life
  return tostring(2 ^ ((now - (since or now)) / half_life))
end
if not since or redis.call('HGET', KEYS[2], 'half_life') ~= ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[2], 'since', now, 'half_life', ARGV[1])
  since = now
end
local halvings = (now - since) / half_life
if halvings > 100 then
  redis.call('ZUNIONSTORE', KEYS[1], 1, KEYS[1], 'WEIGHTS', 2 ^ -halvings)
  redis.call('HSET', KEYS[2], 'since', now)
  halvings = 0
end
local weight = 2 ^ halvings
for i = 3, #ARGV, 2 do
  redis.call('ZINCRBY', KEYS[1], ARGV[i + 1] * weight, ARGV[i])
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -most - 1)
-- Ten half-lives without a read leave a thousandth.
redis.call('PEXPIRE', KEYS[1], 10 * half_life)
redis.call('PEXPIRE', KEYS[2], 10 * half_life)
return tostring(weight)
