-- KEYS: mirror, seats. ARGV: epoch, now.
-- The seats that have not run out; 0 where there is no copy; the epoch that owns it as text where it is higher.
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then return 0 end
if tonumber(epoch) > tonumber(ARGV[1]) then return epoch end
if tonumber(epoch) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'op', 0)
  redis.call('HDEL', KEYS[1], 'building')
end
return redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[2], '+inf')
