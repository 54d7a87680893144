local channel, partition = arg(), arg()
local record, digest, pile = next_put(), arg(), arg()
local order_is, order, events = next_precondition(), next_put(), {}
for i = 1, tonumber(arg()) do events[i] = arg() end
local conflict, conflict_event = next_put(), arg()
local conflicts_from, conflicts_to, most_conflicts = arg(), arg(), tonumber(arg())

local row = redis.call('GET', record.at)
local outcome
local appended = {}
if row then
    local _, stored = parse(row)
    if stored == digest then return {'again'} end
    local kept = redis.call('GET', conflict.at)
    if kept or redis.call('ZLEXCOUNT', index('0'), conflicts_from, conflicts_to) >= most_conflicts then
        return {'kept'}
    end
    plan_put(conflict)
    appended[1] = plan_append(pile, conflict_event)
    outcome = 'differs'
else
    local refused, current = fails(order_is)
    if refused then return {'conflict', current} end
    plan_put(record)
    plan_put(order)
    for i, event in ipairs(events) do appended[i] = plan_append(pile, event) end
    outcome = 'first'
end
apply()
publish(channel, partition)
return {outcome, unpack(appended)}
