-- watermark: note what a consumer group has applied on partitions.
-- KEYS: the group's hash.
-- ARGV: Redis identity, number of partitions, the latest version that can be true, then three for each: partition,
--   version, wall time in ms.
-- A watermark only rises, except on another Redis, where it starts again. The number of partitions rises with any mark;
-- it falls (the topic was made again with fewer) only with one that is newer than all that is held here: otherwise a
-- mark from before partitions were added, applied late, would leave the new ones out of the minimum.
-- What is held and cannot be true counts for nothing: a neighbour's version would never be reached, and its number of
-- partitions would be looped over.
local MOST = 10000
local identity, latest = ARGV[1], ARGV[3]

-- Of this Redis, or ''.
local function held_version(partition)
  local held = redis.call('HGET', KEYS[1], partition)
  local version = held and string.sub(held, 1, 16) or ''
  if #version < 16 or string.find(version, '[^0-9a-f]') or version > latest or string.sub(held, 32) ~= identity then
    return ''
  end
  return version
end

local held_text = redis.call('HGET', KEYS[1], 'partitions') or '0'
local held_count = string.find(held_text, '^%d+$') and tonumber(held_text) or 0
if held_count > MOST then
  held_count = 0
end
local counts = tonumber(ARGV[2]) >= held_count
if not counts then
  local newest = ''
  for i = 4, #ARGV, 3 do
    if newest < ARGV[i + 1] then
      newest = ARGV[i + 1]
    end
  end
  counts = true
  for partition = 0, held_count - 1 do
    if held_version(partition) >= newest then
      counts = false
      break
    end
  end
end
if counts then
  redis.call('HSET', KEYS[1], 'partitions', ARGV[2])
end
for i = 4, #ARGV, 3 do
  if held_version(ARGV[i]) < ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i],
      ARGV[i + 1] .. ':' .. string.format('%013d', tonumber(ARGV[i + 2])) .. ':' .. identity)
  end
end
return 1
