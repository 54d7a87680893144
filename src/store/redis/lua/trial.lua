-- Every command that a script writes with, once: what this server or this user refuses shows here and not half-way
-- through a commit.
local channel = arg()
local at = base .. 'trial:'
redis.call('DEL', at .. 'string', at .. 'zset', at .. 'hash', at .. 'stream')
redis.call('SET', at .. 'string', '', 'PX', 1000)
redis.call('ZADD', at .. 'zset', 0, 'a')
redis.call('ZRANGEBYLEX', at .. 'zset', '-', '+', 'LIMIT', 0, 1)
redis.call('ZREVRANGEBYLEX', at .. 'zset', '+', '-', 'LIMIT', 0, 1)
redis.call('ZLEXCOUNT', at .. 'zset', '-', '+')
redis.call('ZREM', at .. 'zset', 'a')
redis.call('HSET', at .. 'hash', 'a', '')
redis.call('HMGET', at .. 'hash', 'a')
redis.call('HDEL', at .. 'hash', 'a')
redis.call('XADD', at .. 'stream', '1-0', 'a', '')
redis.call('XINFO', 'STREAM', at .. 'stream')
redis.call('PUBLISH', channel, '')
redis.call('DEL', at .. 'string', at .. 'zset', at .. 'hash', at .. 'stream')
return 1
