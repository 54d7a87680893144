local runs, after_run, after_pile, limit = key(), arg(), arg(), tonumber(arg())
local living = {}
for _ = 1, tonumber(arg()) do living[arg()] = true end
local found = {}
for _, run in ipairs(redis.call('ZRANGEBYLEX', runs, '[' .. after_run, '+')) do
    if #found >= 3 * limit then break end
    if not living[run] then
        local from = run == after_run and '(' .. after_pile or '-'
        local left = limit - #found / 3
        for _, pile in ipairs(redis.call('ZRANGEBYLEX', base .. 'r:' .. run, from, '+', 'LIMIT', 0, left)) do
            local row = redis.call('HMGET', base .. 'o:' .. pile, 'session', 'epoch')
            found[#found + 1], found[#found + 2], found[#found + 3] = pile, row[1], row[2]
        end
    end
end
return found
