local meta, format, partitions, born = key(), arg(), arg(), arg()
local found = redis.call('HMGET', meta, 'format', 'partitions', 'born')
if found[1] and found[2] and found[3] then return found end
format, partitions = found[1] or format, found[2] or partitions
plan('HSET', meta, 'format', format, 'partitions', partitions, 'born', born)
apply()
return {format, partitions, born}
