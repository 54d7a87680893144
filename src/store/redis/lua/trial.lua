-- Every command that a script writes with, once: what this server or this user refuses shows here and not half-way
-- through a commit.
local channel = arg()
local function try(...)
    local answer = redis.pcall(...)
    if type(answer) == 'table' and answer.err then error({err = answer.err .. ' (' .. (...) .. ')'}) end
end
local at = base .. 'trial:'
-- A full memory refuses the first write of a script or none, and never a DEL: so this is the first.
try('SET', at .. 'string', '', 'PX', 1000)
try('DEL', at .. 'string', at .. 'zset', at .. 'hash', at .. 'stream')
try('SET', at .. 'string', '', 'PX', 1000)
try('ZADD', at .. 'zset', 0, 'a')
try('ZRANGEBYLEX', at .. 'zset', '-', '+', 'LIMIT', 0, 1)
try('ZREVRANGEBYLEX', at .. 'zset', '+', '-', 'LIMIT', 0, 1)
try('ZLEXCOUNT', at .. 'zset', '-', '+')
try('ZREM', at .. 'zset', 'a')
try('HSET', at .. 'hash', 'a', '')
try('HMGET', at .. 'hash', 'a')
try('HDEL', at .. 'hash', 'a')
try('XADD', at .. 'stream', '1-0', 'a', '')
try('XINFO', 'STREAM', at .. 'stream')
try('XRANGE', at .. 'stream', '-', '+', 'COUNT', 1)
try('XTRIM', at .. 'stream', 'MINID', '1-0')
try('PUBLISH', channel, '')
try('DEL', at .. 'string', at .. 'zset', at .. 'hash', at .. 'stream')
return 1
