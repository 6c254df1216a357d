-- contribute: replace documents' contributions and apply the differences to everything derived; all or nothing.
-- Runs even when Redis is out of memory (the loader adds `allow-oom` where the server knows it).
-- KEYS: generations, the generation's partitions, further hashes, sorted sets.
-- ARGV: epoch, partition, version read at, up to which of KEYS nothing else proves that they are there, then five
-- counts, then
--   documents, 4 each: bucket's place in KEYS, key, contribution that was found or "", the new one or ""
--   differences, 3 each: hash's place, field, whole number to add
--   sets, 3 each: sorted set's place, place of the hash of sizes, group
--   scores, 3 each: sorted set's place, member, score or "" to remove
--   tags, 3 each: hash's place, field, version
-- Answers {"done"}, or why nothing was done:
--   {"epoch"} other generations by now | {"lost", place in KEYS} something is missing: the generation is void
--   {"changed"} another consumer replaced a contribution | {"behind", version} read again, at that version or later
local PRESENT = '.g'
local version = ARGV[3]
local documents = 10
local differences = documents + 4 * tonumber(ARGV[5])
local sets = differences + 3 * tonumber(ARGV[6])
local scores = sets + 3 * tonumber(ARGV[7])
local tags = scores + 3 * tonumber(ARGV[8])
local last = tags + 3 * tonumber(ARGV[9]) - 1

local function key(i)
  return KEYS[tonumber(ARGV[i])]
end

if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then
  return {'epoch'}
end
for place = 2, tonumber(ARGV[4]) do
  if redis.call('HEXISTS', KEYS[place], PRESENT) == 0 then
    return {'lost', place}
  end
end
local creates = false
for i = documents, differences - 1, 4 do
  if (redis.call('HGET', key(i), ARGV[i + 1]) or '') ~= ARGV[i + 2] then
    return {'changed'}
  end
  creates = creates or (ARGV[i + 2] == '' and ARGV[i + 3] ~= '')
end
if creates then
  -- Whoever was paused since its read must not bring back a document whose deletion was applied meanwhile.
  local begun = redis.call('HGET', KEYS[2], ARGV[2])
  if begun and version < begun then
    return {'behind', begun}
  end
end
for i = sets, scores - 1, 3 do
  local size = redis.call('HGET', key(i + 1), ARGV[i + 2]) or '0'
  if redis.call('ZCARD', key(i)) ~= tonumber(size) then
    return {'lost', tonumber(ARGV[i])}
  end
end

-- From here on only what somebody else wrote is refused, or what our user may not do: with either the generation is
-- lost, whatever was done to it.
local function apply()
  for i = documents, differences - 1, 4 do
    if ARGV[i + 3] == '' then
      if ARGV[i + 2] ~= '' then
        redis.call('HDEL', key(i), ARGV[i + 1])
      end
    elseif ARGV[i + 3] ~= ARGV[i + 2] then
      redis.call('HSET', key(i), ARGV[i + 1], ARGV[i + 3])
    end
  end
  for i = differences, sets - 1, 3 do
    -- Redis adds 64-bit integers, Lua could not; a double that was no zero as an integer is none either.
    local total = redis.pcall('HINCRBY', key(i), ARGV[i + 1], ARGV[i + 2])
    if type(total) == 'table' then
      local held = redis.call('HGET', key(i), ARGV[i + 1])
      if held and not string.find(held, '^%-?%d+$') then
        return {'lost', tonumber(ARGV[i])}
      end
      redis.call('HINCRBY', key(i), ARGV[i + 1], ARGV[i + 2]) -- what lies there is a number: Redis says what is wrong
    elseif total == 0 then
      redis.call('HDEL', key(i), ARGV[i + 1])
    end
  end
  -- Neighbours of one set in one command: a command costs more than what it does.
  local set, moved = nil, {}
  for i = scores, tags, 3 do
    local is_score = i < tags and ARGV[i + 2] ~= ''
    if #moved > 0 and not (is_score and ARGV[i] == set and #moved < 200) then
      redis.call('ZADD', KEYS[tonumber(set)], unpack(moved))
      moved = {}
    end
    if is_score then
      set = ARGV[i]
      moved[#moved + 1], moved[#moved + 2] = ARGV[i + 2], ARGV[i + 1]
    elseif i < tags then
      redis.call('ZREM', key(i), ARGV[i + 1])
    end
  end
  for i = sets, scores - 1, 3 do
    local size = redis.call('ZCARD', key(i))
    if size == 0 then
      redis.call('HDEL', key(i + 1), ARGV[i + 2])
    else
      redis.call('HSET', key(i + 1), ARGV[i + 2], size)
    end
  end
  for i = tags, last, 3 do
    local held = redis.call('HGET', key(i), ARGV[i + 1])
    if held and (#held ~= 16 or string.find(held, '[^0-9a-f]')) then
      return {'lost', tonumber(ARGV[i])}
    elseif not held or held < ARGV[i + 2] then
      redis.call('HSET', key(i), ARGV[i + 1], ARGV[i + 2])
    end
  end
  return {'done'}
end

local whole, answer = pcall(apply)
if not whole then
  -- Half of it is there, and done again it would be taken for all. Either of these makes the generation void.
  redis.pcall('HDEL', KEYS[2], PRESENT)
  redis.pcall('DEL', KEYS[2])
  error(redis.REDIS_VERSION and {err = answer} or answer, 0) -- since 7.0 an error has a code of its own
end
return answer
