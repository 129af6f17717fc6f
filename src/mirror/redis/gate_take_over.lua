-- KEYS: gate, waiting, passes. ARGV: epoch.
-- Next turn, draw, how many wait, how many passes; the epoch that owns it as text where it is higher.
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch and tonumber(epoch) > tonumber(ARGV[1]) then return epoch end
-- A line that no gate vouches for is nothing, and must not come back under a new gate.
if not epoch then redis.call('UNLINK', KEYS[2], KEYS[3]) end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'op', 0)
redis.call('HDEL', KEYS[1], 'building')
local stored = redis.call('HMGET', KEYS[1], 'next', 'draw')
return { stored[1] or '0', stored[2] or 'due', redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3]) }
