-- agree: replace the generations of a resource, if they are still those that were read.
-- KEYS: generations. ARGV: epoch that was found or "" for none, the new text.
-- Answers 1 or 0.
if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
