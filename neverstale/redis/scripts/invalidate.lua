-- invalidate: mark entries stale as of a version. One atomic step on each key.
-- Runs even when Redis is out of memory (the loader adds `allow-oom` where the server knows it).
-- KEYS: entries.
-- ARGV: token, lease in ms, then two for each entry: version, and whether to hand out a lease for a refresh:
--   "n" never | "r" if it held a value | "t" if it held a value that was read since its last fill.
-- Answers one letter for each entry, as one string:
--   "-" missing, nothing to do | "n" newer, nothing to do | "w" somebody's lease now knows the version
--   "s" was stale already | "d" made stale | "r" made stale, and the lease is yours
--   "x" deleted: these bytes were no entry
local NONE = '0000000000000000'
local token, lease_ms = ARGV[1], tonumber(ARGV[2])
local lease_end

local function invalidate(key, version, refresh)
  local header = redis.call('GETRANGE', key, 0, 34)
  if header == '' then
    return '-' -- a cold key costs nothing; `applied` covers a reader that is about to lease it
  end
  local state, held = string.sub(header, 1, 1), string.sub(header, 4, 19)
  if state == 'L' then
    redis.call('SETRANGE', key, 0, 'S0-' .. version)
    return 'w'
  end
  if state == 'S' then
    if held < version then
      redis.call('SETRANGE', key, 3, version)
    end
    return 's'
  end
  if #header < 35 or (state ~= 'D' and state ~= 'N') then
    redis.call('DEL', key)
    return 'x'
  end
  if held >= version then
    return 'n'
  end
  if refresh == 'r' or (refresh == 't' and string.sub(header, 2, 2) == '1') then
    if not lease_end then
      local time = redis.call('TIME')
      lease_end = string.format('%013d',
        tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + lease_ms)
    end
    redis.call('SETRANGE', key, 0, 'S0' .. string.sub(header, 3, 3) .. version .. string.sub(header, 20, 35) .. token .. lease_end)
    if redis.call('PTTL', key) < lease_ms then
      redis.call('PEXPIRE', key, lease_ms)
    end
    return 'r'
  end
  redis.call('SETRANGE', key, 0, 'S0' .. string.sub(header, 3, 3) .. version)
  return 'd'
end

local answers = {}
for i, key in ipairs(KEYS) do
  answers[i] = invalidate(key, ARGV[1 + 2 * i], ARGV[2 + 2 * i])
end
return table.concat(answers)
