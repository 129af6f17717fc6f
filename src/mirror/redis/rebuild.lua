-- One part of a rebuild; parts may come in any order, twice or late. They gather aside, and the part that makes
-- them complete puts them in place, so that half a rebuild never looks whole.
-- KEYS: mirror, seats, seats being gathered. ARGV: epoch, op, count of all locks, prefix of the seats' keys; for
-- each lock of this part seat, expiry, milliseconds, value.
-- 2 more is to come, 1 in place or overtaken, 0 another rebuild has begun, -1 a higher epoch owns it.
local stored = redis.call('HMGET', KEYS[1], 'epoch', 'op', 'building')
local epoch, op, building = tonumber(stored[1]), tonumber(stored[2]), tonumber(stored[3])
local mine, my_op = tonumber(ARGV[1]), tonumber(ARGV[2])
if epoch and epoch > mine then return -1 end
if epoch == mine and op >= my_op then return 1 end
if epoch == mine and building and building > my_op then return 0 end
if epoch ~= mine then redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'op', 0) end
if epoch ~= mine or building ~= my_op then redis.call('HSET', KEYS[1], 'building', ARGV[2]) end
for i = 5, #ARGV, 4 do
  redis.call('SET', ARGV[4] .. ARGV[i], ARGV[i + 3], 'PX', ARGV[i + 2])
  redis.call('ZADD', KEYS[3], ARGV[i + 1], ARGV[i])
end
local total = tonumber(ARGV[3])
if redis.call('ZCARD', KEYS[3]) < total then
  redis.call('PEXPIRE', KEYS[3], 60000)
  return 2
end
redis.call('UNLINK', KEYS[2])
if total > 0 then
  redis.call('RENAME', KEYS[3], KEYS[2])
  redis.call('PERSIST', KEYS[2])
end
redis.call('HSET', KEYS[1], 'op', ARGV[2])
redis.call('HDEL', KEYS[1], 'building')
return 1
