local own, document, open = key(), redis.call('GET', key()), key()
local pile, session, now, identity = arg(), arg(), tonumber(arg()), arg()
local held, held_session, held_epoch = arg(), arg(), tonumber(arg())
local most_takeovers, contest_ms, remembered, most_orders = tonumber(arg()), tonumber(arg()), arg(), arg()

local row = redis.call('HMGET', own, 'epoch', 'session', 'identity', 'takeovers', 'superseded',
    'previous_session', 'previous_epoch')
local epoch, owner = tonumber(row[1] or 0), row[2]
local takeovers, superseded = row[4] or '', row[5] or ''
local previous_session, previous_epoch = row[6] or '', row[7] or ''
local new = epoch

if held == 'nothing' then
    if owner ~= session then
        -- The late copy of a login that is over.
        if string.find(superseded, session .. ' ', 1, true) then return {'superseded'} end
        if owner and row[3] ~= identity then
            local lately = {}
            for at in string.gmatch(takeovers, '%d+') do
                if tonumber(at) + contest_ms > now then lately[#lately + 1] = at end
            end
            if #lately >= most_takeovers then return {'contested'} end
            lately[#lately + 1] = num(now)
            takeovers = table.concat(lately, ' ')
        end
        previous_session, previous_epoch = owner or '', owner and num(epoch) or ''
        new = math.max(now, epoch + 1)
    end
elseif epoch > held_epoch then
    if owner ~= session then return {'superseded'} end
elseif held == 'anew' or owner ~= held_session or epoch ~= held_epoch then
    -- Whoever is found here has to be told.
    if owner ~= session then previous_session, previous_epoch = owner or '', owner and num(epoch) or '' end
    new = held_epoch + 1
end

-- The highest ones, and those in order.
local orders = {}
local members = redis.call('ZREVRANGEBYLEX', open, '(' .. pile .. '\255', '[' .. pile, 'LIMIT', 0, most_orders)
for i = #members, 1, -1 do
    local name = string.match(members[i], '%z(.*)$')
    orders[#orders + 1] = name
    orders[#orders + 1] = redis.call('GET', base .. 'd:' .. name)
end

if owner ~= session or new ~= epoch then
    superseded = with_superseded(superseded, owner, session, remembered)
    plan('HSET', own, 'epoch', num(new), 'session', session, 'identity', identity, 'takeovers', takeovers,
        'superseded', superseded, 'previous_session', previous_session, 'previous_epoch', previous_epoch)
    if owner then plan_disown(pile, owner) end
    plan_own(pile, session)
    apply()
end
return {'owner', num(new), previous_session, previous_epoch, document, orders}
