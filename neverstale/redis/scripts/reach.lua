-- reach: note how far a consumer group's partitions are applied on this very Redis.
-- KEYS: the group's hash of what is reached.
-- ARGV: the batch's token, then three for each partition: its number, the offset of the batch's first record there,
--   and the offset after its last. A first offset of "" means that what was before is not applied, but void.
-- An offset is written only if this Redis took the batch (`stamp`) and everything before it. So whatever Redis this
-- is (a replica that took over, one that was restored from a file), it says itself what it lacks.
-- Answers for each partition: "k" reached | the offset from which records are lacking | "-" not known from where
--   | "?" another Redis took the batch, or another batch came since.
local answers = {}
for i = 2, #ARGV, 3 do
  local partition, first, after = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local held = redis.call('HGET', KEYS[1], partition)
  if held and (#held > 15 or not string.find(held, '^%d+$')) then
    held = false -- no offset, whoever wrote it
  end
  local answer = 'k'
  if redis.call('HGET', KEYS[1], partition .. ':batch') ~= ARGV[1] then
    answer = '?'
  elseif first == '' then
    redis.call('HSET', KEYS[1], partition, after)
  elseif not held then
    answer = '-'
  elseif tonumber(held) < tonumber(first) then
    answer = held
  elseif tonumber(held) < tonumber(after) then
    redis.call('HSET', KEYS[1], partition, after)
  end
  answers[#answers + 1] = answer
end
return answers
