-- watermark: note what a consumer group has applied on partitions.
-- KEYS: the group's hash.
-- ARGV: Redis identity, number of partitions, then three for each: partition, version, wall time in ms.
-- A watermark only rises, except on another Redis, where it starts anew. The number of partitions rises with any mark;
-- it falls (the topic was made again with fewer) only with one that is newer than all that is held here: otherwise a
-- mark from before partitions were added, applied late, would leave the new ones out of the minimum.
local held_count = tonumber(redis.call('HGET', KEYS[1], 'partitions') or '0')
local count = tonumber(ARGV[2])
local counts = count >= held_count
if not counts then
  local newest = ''
  for i = 3, #ARGV, 3 do
    if newest < ARGV[i + 1] then
      newest = ARGV[i + 1]
    end
  end
  counts = true
  for partition = 0, held_count - 1 do
    local held = redis.call('HGET', KEYS[1], partition)
    if held and string.sub(held, 32) == ARGV[1] and string.sub(held, 1, 16) >= newest then
      counts = false
    end
  end
end
if counts then
  redis.call('HSET', KEYS[1], 'partitions', ARGV[2])
end
for i = 3, #ARGV, 3 do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  if not held or string.sub(held, 1, 16) < ARGV[i + 1] or string.sub(held, 32) ~= ARGV[1] then
    redis.call('HSET', KEYS[1], ARGV[i],
      ARGV[i + 1] .. ':' .. string.format('%013d', tonumber(ARGV[i + 2])) .. ':' .. ARGV[1])
  end
end
return 1
