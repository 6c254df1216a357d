-- stamp: leave a batch's token, last of all that it writes. Whoever finds it knows that this Redis took the batch.
-- KEYS: the group's hash of what is reached. ARGV: token, then the batch's partitions.
for i = 2, #ARGV do
  redis.call('HSET', KEYS[1], ARGV[i] .. ':batch', ARGV[1])
end
return 1
