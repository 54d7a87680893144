local nodes, mine, run, ttl_ms, member = key(), key(), arg(), arg(), arg()
local fresh = redis.call('GET', mine) == false
local members = {}
for _, other in ipairs(redis.call('ZRANGEBYLEX', nodes, '-', '+')) do
    if other ~= run then
        local said = redis.call('GET', base .. 'node:' .. other)
        if said then members[#members + 1] = said else plan('ZREM', nodes, other) end
    end
end
plan('SET', mine, member, 'PX', ttl_ms)
plan('ZADD', nodes, 0, run)
apply()
return {fresh and 1 or 0, members}
