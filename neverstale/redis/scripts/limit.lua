-- limit: take tokens out of a caller's bucket, which fills at a steady rate (GCRA: one number says how full it is).
-- KEYS: the bucket, as the microseconds since 1970 at which it is full again; missing: it is full.
-- ARGV: microseconds for one token, size in tokens, tokens wanted.
-- Answers {tokens taken, tokens left, microseconds until it is full, microseconds until it has a token}.
local interval, size, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or '') or now, now)
if not (full_at <= now + size * interval + 1000000) then
  full_at = now -- no bucket of this size takes so long; somebody else's number must not shut a caller out
end
-- Half a microsecond makes up for the rounding of what is stored.
local there = math.floor((now + size * interval - full_at + 0.5) / interval)
local taken = math.max(math.min(there, wanted), 0)
if taken > 0 then
  full_at = full_at + taken * interval
  redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
end
local next_at = full_at + interval - size * interval
return {taken, math.max(there - taken, 0), math.ceil(full_at - now), math.max(math.ceil(next_at - now), 0)}
