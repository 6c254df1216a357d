-- raise: lift registers (`applied`, floors) to a version, never lower them, never create them.
-- KEYS: registers. ARGV: one version for each.
-- A missing register means "unknown"; only `claim` and `establish` bring it back. One being established
-- ("?nonce:version") remembers the highest version raised meanwhile. Bytes that are neither are deleted: unknown.
-- Answers one letter for each, as one string: "k" known | "p" being established | "-" unknown.
local answers = {}

local function is_register(held)
  local version = held
  if string.sub(held, 1, 1) == '?' then
    version = #held == 34 and string.sub(held, 19) or ''
  end
  return #version == 16 and not string.find(version, '[^0-9a-f]')
end

for i, key in ipairs(KEYS) do
  local version = ARGV[i]
  local held = redis.call('GET', key)
  if held and not is_register(held) then
    redis.call('DEL', key)
    held = false
  end
  if not held then
    answers[i] = '-'
  elseif string.sub(held, 1, 1) == '?' then
    if string.sub(held, 19, 34) < version then
      redis.call('SETRANGE', key, 18, version)
    end
    answers[i] = 'p'
  else
    if held < version then
      redis.call('SET', key, version)
    end
    answers[i] = 'k'
  end
end
return table.concat(answers)
