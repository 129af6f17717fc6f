-- KEYS: mirror, seats. ARGV: epoch, previous, op, now, prefix of the seats' keys, count of locks; for each of
-- them seat, expiry, milliseconds, value; then the seats to unlock. At most some 2,000: Lua hands over no more at once.
-- 1 applied or known, 0 the mirror stands elsewhere, -1 a higher epoch owns it.
local stored = redis.call('HMGET', KEYS[1], 'epoch', 'op', 'building')
local epoch, op = tonumber(stored[1]), tonumber(stored[2])
local mine, previous, next_op = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if not epoch then return 0 end
if epoch > mine then return -1 end
if epoch < mine or stored[3] then return 0 end
if op >= next_op then return 1 end
if op ~= previous then return 0 end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[4])
local prefix, locks, unlocks, at = ARGV[5], {}, {}, 7
for i = 1, 2 * tonumber(ARGV[6]), 2 do
  redis.call('SET', prefix .. ARGV[at], ARGV[at + 3], 'PX', ARGV[at + 2])
  locks[i], locks[i + 1] = ARGV[at + 1], ARGV[at]
  at = at + 4
end
if #locks > 0 then redis.call('ZADD', KEYS[2], unpack(locks)) end
if at <= #ARGV then
  redis.call('ZREM', KEYS[2], unpack(ARGV, at))
  for i = at, #ARGV do unlocks[#unlocks + 1] = prefix .. ARGV[i] end
  redis.call('UNLINK', unpack(unlocks))
end
redis.call('HSET', KEYS[1], 'op', ARGV[3])
return 1
