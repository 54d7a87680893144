local at, command, from, to, limit = key(), arg(), arg(), arg(), arg()
local found = {}
for _, member in ipairs(redis.call(command, at, from, to, 'LIMIT', 0, limit)) do
    found[#found + 1] = member
    found[#found + 1] = redis.call('GET', base .. 'd:' .. string.match(member, '%z(.*)$'))
end
return found
