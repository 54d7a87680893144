local meta, format, partitions = key(), arg(), arg()
local found = redis.call('HMGET', meta, 'format', 'partitions')
if found[1] and found[2] then return found end
plan('HSET', meta, 'format', format, 'partitions', partitions)
apply()
return {format, partitions}
