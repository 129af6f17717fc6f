-- KEYS: any of the option. ARGV: prefix of the seats' keys, seats.
-- Of each seat that has not run out: seat, value, milliseconds left.
local found = {}
for i = 2, #ARGV do
  local key = ARGV[1] .. ARGV[i]
  local value = redis.call('GET', key)
  if value then
    local left = redis.call('PTTL', key)
    found[#found + 1] = ARGV[i]
    found[#found + 1] = value
    found[#found + 1] = left
  end
end
return found
