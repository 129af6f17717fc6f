-- One part of a rebuild; parts may come in any order, twice or late. They gather aside, and the part that makes
-- them complete puts them in place, so that half a rebuild never looks whole.
-- KEYS: gate, waiting, passes, waiting and passes being gathered. ARGV: epoch, op, next turn, draw, count of all who
-- wait, count of all passes, prefix of the passes' keys, count of those of this part who wait, of each turn and user;
-- then for each pass of this part user, end, milliseconds, value.
-- 2 more is to come, 1 in place or overtaken, 0 another rebuild has begun, -1 a higher epoch owns it.
local stored = redis.call('HMGET', KEYS[1], 'epoch', 'op', 'building')
local epoch, op, building = tonumber(stored[1]), tonumber(stored[2]), tonumber(stored[3])
local mine, my_op = tonumber(ARGV[1]), tonumber(ARGV[2])
if epoch and epoch > mine then return -1 end
-- At op 0 stands what a take-over found, which is not what its owner has made of it.
if epoch == mine and (op > my_op or (op == my_op and my_op > 0)) then return 1 end
if epoch == mine and building and building > my_op then return 0 end
if epoch ~= mine then redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'op', 0) end
if epoch ~= mine or building ~= my_op then redis.call('HSET', KEYS[1], 'building', ARGV[2]) end
local passes_at = 9 + 2 * tonumber(ARGV[8])
-- Lua hands over some thousand values at once.
for i = 9, passes_at - 1, 2000 do
  redis.call('ZADD', KEYS[4], unpack(ARGV, i, math.min(i + 1999, passes_at - 1)))
end
for i = passes_at, #ARGV, 4 do
  redis.call('SET', ARGV[7] .. ARGV[i], ARGV[i + 3], 'PX', ARGV[i + 2])
  redis.call('ZADD', KEYS[5], ARGV[i + 1], ARGV[i])
end
local waiting, passes = tonumber(ARGV[5]), tonumber(ARGV[6])
if redis.call('ZCARD', KEYS[4]) < waiting or redis.call('ZCARD', KEYS[5]) < passes then
  redis.call('PEXPIRE', KEYS[4], 60000)
  redis.call('PEXPIRE', KEYS[5], 60000)
  return 2
end
redis.call('UNLINK', KEYS[2], KEYS[3])
if waiting > 0 then
  redis.call('RENAME', KEYS[4], KEYS[2])
  redis.call('PERSIST', KEYS[2])
end
if passes > 0 then
  redis.call('RENAME', KEYS[5], KEYS[3])
  redis.call('PERSIST', KEYS[3])
end
redis.call('HSET', KEYS[1], 'op', ARGV[2], 'next', ARGV[3], 'draw', ARGV[4])
redis.call('HDEL', KEYS[1], 'building')
return 1
