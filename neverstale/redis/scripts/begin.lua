-- begin: raise a partition's register, then answer what documents last contributed. One generation, one partition.
-- KEYS: the generation's partitions, then buckets.
-- ARGV: partition, version, then two for each document: place of its bucket in KEYS, its key.
-- Answers {"begun", the register, one contribution or "" for each document}, or
--   {"lost", place in KEYS}: a hash is missing, the generation is void
local PRESENT = '.g'
if redis.call('HEXISTS', KEYS[1], PRESENT) == 0 then
  return {'lost', 1}
end
local begun = redis.call('HGET', KEYS[1], ARGV[1])
if begun and (#begun ~= 16 or string.find(begun, '[^0-9a-f]')) then
  return {'lost', 1} -- somebody else's bytes
end
if not begun or begun < ARGV[2] then
  begun = ARGV[2]
  redis.call('HSET', KEYS[1], ARGV[1], begun)
end
local answer = {'begun', begun}
for i = 3, #ARGV, 2 do
  local place = tonumber(ARGV[i])
  local held = redis.call('HGET', KEYS[place], ARGV[i + 1])
  if not held and redis.call('HEXISTS', KEYS[place], PRESENT) == 0 then
    return {'lost', place}
  end
  answer[#answer + 1] = held or ''
end
return answer
