-- watermark: note what a consumer group has applied on partitions.
-- KEYS: the group's hash.
-- ARGV: Redis identity, number of partitions, then three for each: partition, version, wall time in ms.
-- A watermark only rises, except on another Redis, where it starts anew.
redis.call('HSET', KEYS[1], 'partitions', ARGV[2])
for i = 3, #ARGV, 3 do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  if not held or string.sub(held, 1, 16) < ARGV[i + 1] or string.sub(held, 32) ~= ARGV[1] then
    redis.call('HSET', KEYS[1], ARGV[i],
      ARGV[i + 1] .. ':' .. string.format('%013d', tonumber(ARGV[i + 2])) .. ':' .. ARGV[1])
  end
end
return 1
