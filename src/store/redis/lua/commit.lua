-- The log: with or without anything else, a script has a key by which its slot is found.
key()
local channel, partition = arg(), arg()
local n, fingerprint, kept_ms = arg(), arg(), arg()
local batch = n ~= '' and key()
if batch then
    local row = redis.call('GET', batch)
    if row then
        local last_n, last_fingerprint, versions, offsets = string.match(row, '^(%x+) (%x+) ([%d,]*) ([%d,]*)$')
        if last_n == n and last_fingerprint == fingerprint then return {'again', versions, offsets} end
        if last_n >= n then return {'batch', last_n} end
    end
end
for i = 1, tonumber(arg()) do
    local refused, row = fails(next_precondition())
    if refused then return {'conflict', i - 1, row} end
end

local versions, offsets, events = {}, {}, {}
for i = 1, tonumber(arg()) do versions[i] = num(plan_put(next_put())) end
for _ = 1, tonumber(arg()) do plan_delete(key()) end
for i = 1, tonumber(arg()) do
    events[i] = plan_append(arg(), arg())
    offsets[i] = events[i][1]
end
versions, offsets = table.concat(versions, ','), table.concat(offsets, ',')
if batch then plan('SET', batch, table.concat({n, fingerprint, versions, offsets}, ' '), 'PX', kept_ms) end
apply()
publish(channel, partition)
return {'first', versions, offsets, events}
