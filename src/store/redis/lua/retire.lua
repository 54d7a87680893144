local nodes, mine, run = key(), key(), arg()
redis.call('ZCARD', nodes)
plan('DEL', mine)
plan('ZREM', nodes, run)
apply()
return 1
