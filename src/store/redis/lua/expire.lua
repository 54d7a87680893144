local due = redis.call('ZRANGEBYLEX', key(), '-', arg(), 'LIMIT', 0, arg())
for _, member in ipairs(due) do plan_delete(base .. 'd:' .. string.match(member, '%z(.*)$')) end
apply()
return #due
