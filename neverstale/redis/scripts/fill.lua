-- fill: the only way a value enters the cache. One atomic step on each key.
-- KEYS: entries.
-- ARGV, seven for each entry: token, version read at, "D" or "N", TTL in ms, digest, ETag, body.
-- The digest is the filler's own: whoever was handed the lease may declare something else than who held it before.
-- Answers one word for each entry: "filled" | "missing" | "token" | "version" (why it was refused).
local NONE = '0000000000000000'

local function fill(key, token, version, kind, ttl_ms, digest, etag, body)
  local header = redis.call('GETRANGE', key, 0, 95)
  if header ~= '' and #header < 96 then
    redis.call('DEL', key) -- no entry of ours
    header = ''
  end
  if header == '' then
    return 'missing' -- the lease was evicted, has expired, or was flushed: nothing vouches for the value
  end
  local state, held = string.sub(header, 1, 1), string.sub(header, 4, 19)
  if state == 'L' or state == 'S' then
    if string.sub(header, 36, 51) ~= token then
      return 'token'
    end
    if state == 'S' and version < held then
      return 'version'
    end
  elseif version <= held then
    return 'version'
  end
  redis.call('SET', key,
    kind .. '0' .. kind .. version .. version .. NONE .. '0000000000000' .. digest .. etag .. body,
    'PX', ttl_ms)
  return 'filled'
end

local answers = {}
for i, key in ipairs(KEYS) do
  local a = (i - 1) * 7
  answers[i] = fill(key, ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 5], ARGV[a + 6], ARGV[a + 7])
end
return answers
