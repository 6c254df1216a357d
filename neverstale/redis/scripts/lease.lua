-- lease: permission to fill. One atomic step on each key.
-- KEYS: entries.
-- ARGV: token, lease in ms, floor, then one key digest for each entry.
-- Answers one item for each entry: {"granted", old bytes or ""} | {"wait", ms left} | {"entry", bytes}.
local NONE = '0000000000000000'
local LONGEST_MS = 60000 -- of any lease; whoever else wrote a later end holds none
local token, lease_ms, floor = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local lease_end = string.format('%013d', now + lease_ms)

local function lease(key, digest)
  local entry = redis.call('GET', key)
  if not entry or #entry < 96 or string.sub(entry, 65, 74) ~= string.sub(digest, 1, 10) then
    -- Missing, or somebody else's bytes under this key.
    redis.call('SET', key, 'L0-' .. NONE .. NONE .. token .. lease_end .. digest .. NONE, 'PX', lease_ms)
    return {'granted', ''}
  end
  local state, version = string.sub(entry, 1, 1), string.sub(entry, 4, 19)
  local ours = string.sub(entry, 65, 80) == digest
  if state == 'D' or state == 'N' then
    if version >= floor and ours then
      return {'entry', entry}
    end
    -- The floor has passed over it, or it shows what another process declares: stale since the later of both, and
    -- nobody holds its lease.
    version = version < floor and floor or version
  elseif string.sub(entry, 36, 51) ~= NONE then
    local left = (tonumber(string.sub(entry, 52, 64)) or 0) - now
    if left > 0 and left <= LONGEST_MS then
      return {'wait', left}
    end
  end
  if state ~= 'L' then
    state = 'S'
  end
  if not ours then
    -- What is known of its versions stays, the body does not: nobody here may see it.
    redis.call('SET', key, state .. '0-' .. version .. NONE .. token .. lease_end .. digest .. NONE, 'PX', lease_ms)
    return {'granted', ''}
  end
  redis.call('SETRANGE', key, 0,
    state .. '0' .. string.sub(entry, 3, 3) .. version .. string.sub(entry, 20, 35) .. token .. lease_end)
  -- The entry must live as long as its lease: an expiry would only lose the fill, but lose it for nothing.
  if redis.call('PTTL', key) < lease_ms then
    redis.call('PEXPIRE', key, lease_ms)
  end
  return {'granted', entry}
end

local answers = {}
for i, key in ipairs(KEYS) do
  answers[i] = lease(key, ARGV[3 + i])
end
return answers
