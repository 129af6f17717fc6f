-- KEYS: gate, waiting, passes. ARGV: epoch, previous, op, now, prefix of the passes' keys, next turn, draw or nothing,
-- counts of those who leave the line, who join it, who leave the sale, who enter it; then of each of the first user and
-- turn, of the second turn and user, of the third user and pass, of the fourth user, end, milliseconds, value. Who leaves
-- another turn or pass than this stays, but nothing there means any.
-- 1 applied or known, 0 the copy stands elsewhere, -1 a higher epoch owns it.
local stored = redis.call('HMGET', KEYS[1], 'epoch', 'op', 'building', 'next')
local epoch, op = tonumber(stored[1]), tonumber(stored[2])
local mine, previous, next_op = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if not epoch then return 0 end
if epoch > mine then return -1 end
if epoch < mine or stored[3] then return 0 end
if op >= next_op then return 1 end
if op ~= previous then return 0 end
local prefix, at = ARGV[5], 12

-- The next `count` pairs of arguments, as two lists.
local function pairs_of(count)
  local first, second = {}, {}
  for i = 1, tonumber(count) do
    first[i], second[i] = ARGV[at], ARGV[at + 1]
    at = at + 2
  end
  return first, second
end
-- Lua hands over some thousand values at once. An even number, for pairs.
local function in_parts_of(values, from, to, call)
  for i = from, to, 2000 do call(unpack(values, i, math.min(i + 1999, to))) end
end
local function in_parts(values, call) in_parts_of(values, 1, #values, call) end
local function read(values, call)
  local found = {}
  in_parts(values, function(...)
    for _, value in ipairs(call(...)) do found[#found + 1] = value end
  end)
  return found
end

local users, turns = pairs_of(ARGV[8])
local scores = read(users, function(...) return redis.call('ZMSCORE', KEYS[2], ...) end)
local gone = {}
for i, user in ipairs(users) do
  if turns[i] == '' or tonumber(scores[i]) == tonumber(turns[i]) then gone[#gone + 1] = user end
end
in_parts(gone, function(...) redis.call('ZREM', KEYS[2], ...) end)
local after = at + 2 * tonumber(ARGV[9])
in_parts_of(ARGV, at, after - 1, function(...) redis.call('ZADD', KEYS[2], ...) end)
at = after

local passes
users, passes = pairs_of(ARGV[10])
local keys = {}
for i, user in ipairs(users) do keys[i] = prefix .. user end
local values = read(keys, function(...) return redis.call('MGET', ...) end)
local ended, unlinked = {}, {}
for i, user in ipairs(users) do
  local value = values[i]
  if passes[i] == '' or not value or string.find(value, '{"passId":"' .. passes[i] .. '",', 1, true) == 1 then
    ended[#ended + 1], unlinked[#unlinked + 1] = user, keys[i]
  end
end
in_parts(ended, function(...) redis.call('ZREM', KEYS[3], ...) end)
in_parts(unlinked, function(...) redis.call('UNLINK', ...) end)
-- Whoever enters makes room for themselves.
if tonumber(ARGV[11]) > 0 then redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[4]) end
local admitted = {}
for i = 1, 2 * tonumber(ARGV[11]), 2 do
  redis.call('SET', prefix .. ARGV[at], ARGV[at + 3], 'PX', ARGV[at + 2])
  admitted[i], admitted[i + 1] = ARGV[at + 1], ARGV[at]
  at = at + 4
end
in_parts(admitted, function(...) redis.call('ZADD', KEYS[3], ...) end)

local stands = {'op', ARGV[3]}
if tonumber(ARGV[6]) > (tonumber(stored[4]) or 0) then stands[3], stands[4] = 'next', ARGV[6] end
if ARGV[7] ~= '' then
  local n = #stands
  stands[n + 1], stands[n + 2] = 'draw', ARGV[7]
end
redis.call('HSET', KEYS[1], unpack(stands))
return 1
