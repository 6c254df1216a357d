-- begin: raise a partition's register, then answer what documents last contributed. One generation, one partition.
-- KEYS: generations, the generation's partitions, then buckets.
-- ARGV: epoch, partition, version, then two for each document: place of its bucket in KEYS, its key.
-- Answers {"begun", the register, one contribution or "" for each document}, or why not:
--   {"epoch"} other generations by now | {"lost", place in KEYS} a hash is missing: the generation is void
if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then
  return {'epoch'}
end
for place = 2, #KEYS do
  if redis.call('HEXISTS', KEYS[place], '.g') == 0 then
    return {'lost', place}
  end
end
local begun = redis.call('HGET', KEYS[2], ARGV[2])
if not begun or begun < ARGV[3] then
  begun = ARGV[3]
  redis.call('HSET', KEYS[2], ARGV[2], begun)
end
local answer = {'begun', begun}
for i = 4, #ARGV, 2 do
  answer[#answer + 1] = redis.call('HGET', KEYS[tonumber(ARGV[i])], ARGV[i + 1]) or ''
end
return answer
