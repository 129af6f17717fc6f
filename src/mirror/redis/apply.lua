-- KEYS: mirror, seats. ARGV: epoch, previous, op, now, prefix of the seats' keys, count of locks; for each of
-- them seat, expiry, milliseconds, value; then the seats to unlock.
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
local at, prefix = 7, ARGV[5]
for _ = 1, tonumber(ARGV[6]) do
  redis.call('SET', prefix .. ARGV[at], ARGV[at + 3], 'PX', ARGV[at + 2])
  redis.call('ZADD', KEYS[2], ARGV[at + 1], ARGV[at])
  at = at + 4
end
for i = at, #ARGV do
  redis.call('UNLINK', prefix .. ARGV[i])
  redis.call('ZREM', KEYS[2], ARGV[i])
end
redis.call('HSET', KEYS[1], 'op', ARGV[3])
return 1
