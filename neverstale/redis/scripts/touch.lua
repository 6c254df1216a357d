-- touch: note that entries were read since their last fill (second chance, on_change = "auto").
-- KEYS: entries. Writes only to entries that are there: SETRANGE would create a missing one.
for _, key in ipairs(KEYS) do
  local state = redis.call('GETRANGE', key, 0, 0)
  if state == 'D' or state == 'N' then
    redis.call('SETRANGE', key, 1, '1')
  end
end
return #KEYS
