-- watermark: note what a consumer group has applied on partitions.
-- KEYS: the group's hash.
-- ARGV: Redis identity, number of partitions, the latest version that can be true, the digest and the text of the
--   caller's coverage (both empty: it tells none), coverages that it has made up for (" partition=digest;" for each), then
--   three for each: partition, version, wall time in ms.
-- Answers partitions that are left as they are, each with the digest of the coverage that they were applied with:
--   somebody else has applied them, who may have skipped what the caller covers.
-- A watermark only rises, except on another Redis, where it starts again. The number of partitions rises with any mark;
-- it falls (the topic was made again with fewer) only with one that is newer than all that is held here: otherwise a
-- mark from before partitions were added, applied late, would leave the new ones out of the minimum.
-- What is held and cannot be true counts for nothing: a neighbour's version would never be reached, and its number of
-- partitions would be looped over.
local MOST = 10000
local identity, latest, digest, text, made_up = ARGV[1], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local FIRST = 7

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
  for i = FIRST, #ARGV, 3 do
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
local others = {}
for i = FIRST, #ARGV, 3 do
  local partition, covered = ARGV[i], 'c' .. ARGV[i]
  local held = digest
  if digest ~= '' then
    held = redis.call('HGET', KEYS[1], covered) or digest
    if #held ~= 16 or string.find(held, '[^0-9a-f]') then
      held = '' -- somebody else's: nobody knows what was covered
    end
  end
  if held ~= digest and not string.find(made_up, ' ' .. partition .. '=' .. held .. ';', 1, true) then
    others[#others + 1] = partition
    others[#others + 1] = held
  elseif held_version(partition) < ARGV[i + 1] then
    redis.call('HSET', KEYS[1], partition,
      ARGV[i + 1] .. ':' .. string.format('%013d', tonumber(ARGV[i + 2])) .. ':' .. identity)
    if digest ~= '' then
      redis.call('HSET', KEYS[1], covered, digest, '=' .. digest, text)
    end
  end
end
return others
