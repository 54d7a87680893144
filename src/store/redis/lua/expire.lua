local expiry, expires = '7', key()
local due = redis.call('ZRANGEBYLEX', expires, '-', arg(), 'LIMIT', 0, arg())
local is_due = {}
for _, member in ipairs(due) do is_due[member] = true end

-- What goes with a document: of a record (3) the conflicts (4), which are in index 0 by their names.
local function plan_delete_with(name)
    plan_delete(base .. 'd:' .. name)
    if string.sub(name, 1, 1) ~= '3' then return end
    local beside = '\0' .. '4' .. string.sub(name, 2)
    -- A digest follows, so nothing longer is meant, and nothing else begins like this.
    local from, to = '[' .. beside, '[' .. beside .. string.rep('\255', 33)
    for _, member in ipairs(redis.call('ZRANGEBYLEX', index('0'), from, to)) do
        plan_delete(base .. 'd:' .. string.sub(member, 2))
    end
end

for _, member in ipairs(due) do
    local name = string.match(member, '%z(.*)$')
    local at = base .. 'd:' .. name
    local row = redis.call('GET', at)
    if row then
        local version, digest, entries = parse(row)
        local later, lengths = {}, ''
        for _, entry in ipairs(entries) do
            local expires_at = string.sub(entry, 1, 1) == expiry and string.sub(entry, 2)
            if expires_at and not is_due[expires_at .. '\0' .. name] then
                later[#later + 1] = entry
                lengths = lengths .. ' ' .. #entry
            end
        end
        if #later > 0 then
            plan_put({at = at, tail = ' ' .. digest .. lengths .. '\n' .. table.concat(later), entries = later})
        else
            plan_delete_with(name)
        end
    end
end
apply()
return #due
