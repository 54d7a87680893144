-- What every script begins with. Redis does not roll back: a script reads and checks first, and writes only what `plan`
-- was told, when nothing can fail any more. Reading a key of the wrong type is such a check; it raises an error.
--
-- Numbers here are doubles: versions, offsets, seqs and epochs stay below 2^53, everything else is a string.

local key_at, arg_at = 0, 0
local function key() key_at = key_at + 1 return KEYS[key_at] end
local function arg() arg_at = arg_at + 1 return ARGV[arg_at] end
local function num(n) return string.format('%.0f', n) end

local base = arg()
local planned = {}
local function plan(...) planned[#planned + 1] = {...} end
local function apply() for _, command in ipairs(planned) do redis.call(unpack(command)) end end

-- A document: "version digest length…", newline, its index entries, its value. An entry is a digit and a sort string.
local function parse(row)
    local _, eol, version, digest, lengths = string.find(row, '^(%d+) (%S+)([ %d]*)\n')
    local entries, at = {}, eol + 1
    for length in string.gmatch(lengths, '%d+') do
        entries[#entries + 1] = string.sub(row, at, at + length - 1)
        at = at + length
    end
    return tonumber(version), digest, entries
end

local checked = {}
local function index(digit)
    local name = base .. 'i:' .. digit
    if not checked[name] then checked[name] = redis.call('ZCARD', name) end
    return name
end

local function plan_entry(command, entry, name)
    local at, member = index(string.sub(entry, 1, 1)), string.sub(entry, 2) .. '\0' .. name
    if command == 'ZADD' then plan('ZADD', at, 0, member) else plan('ZREM', at, member) end
end

local function next_put()
    local put = {at = key(), tail = arg(), entries = {}}
    for i = 1, tonumber(arg()) do put.entries[i] = arg() end
    return put
end

-- The document gets its next version and exactly these index entries; its row is the version and `tail`.
local function plan_put(put)
    local name, row = string.sub(put.at, #base + 3), redis.call('GET', put.at)
    local version, old, had, has = 1, {}, {}, {}
    if row then
        local now, _, entries = parse(row)
        version, old = now + 1, entries
    end
    for _, entry in ipairs(old) do had[entry] = true end
    for _, entry in ipairs(put.entries) do has[entry] = true end
    plan('SET', put.at, num(version) .. put.tail)
    for _, entry in ipairs(old) do if not has[entry] then plan_entry('ZREM', entry, name) end end
    for _, entry in ipairs(put.entries) do if not had[entry] then plan_entry('ZADD', entry, name) end end
    return version
end

local function plan_delete(at)
    local row = redis.call('GET', at)
    if not row then return end
    local _, _, old = parse(row)
    plan('DEL', at)
    for _, entry in ipairs(old) do plan_entry('ZREM', entry, string.sub(at, #base + 3)) end
end

-- The newest offset; survives that the log is cut off behind. What that entry is goes into `previous`: pile, epoch,
-- seq, and how its payload begins.
local previous = ''
local function log_end()
    local log = base .. 'log'
    if redis.call('EXISTS', log) == 0 then return 0 end
    local info = redis.call('XINFO', 'STREAM', log)
    local offset
    for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then offset = tonumber(string.match(info[i + 1], '^%d+')) end
        if info[i] == 'last-entry' and info[i + 1] then
            local fields = info[i + 1][2]
            previous = table.concat({fields[2], fields[4], fields[6], string.sub(fields[8], 1, 24)}, ' ')
        end
    end
    return offset
end

local last, piles = nil, {}

-- Offset, epoch and seq are the store's to give; one script at a time is what makes them gapless.
local function plan_append(pile, payload)
    -- Only the first entry of a script is behind one that was there before.
    local behind = ''
    if not last then
        last = log_end()
        behind = previous
    end
    last = last + 1
    local own = base .. 'o:' .. pile
    if not piles[pile] then
        local row = redis.call('HMGET', own, 'epoch', 'seq')
        piles[pile] = {epoch = row[1] or '0', seq = tonumber(row[2] or 0)}
    end
    local row = piles[pile]
    row.seq = row.seq + 1
    local offset, seq = num(last), num(row.seq)
    plan('XADD', base .. 'log', offset .. '-0', 'pile', pile, 'epoch', row.epoch, 'seq', seq, 'payload', payload)
    plan('HSET', own, 'seq', seq)
    return {offset, row.epoch, seq, behind}
end

-- Wakes who follows the log. Nobody relies on it, so it may fail.
local function publish(channel, partition)
    if last then redis.pcall('PUBLISH', channel, partition) end
end

local function next_precondition()
    local kind = arg()
    local it = {kind = kind, at = key()}
    if kind == 'owner' then it.session, it.epoch = arg(), arg() end
    if kind == 'version' then it.version = arg() end
    return it
end

-- Whether a precondition does not hold, and the document as it is.
local function fails(it)
    if it.kind == 'owner' then
        local row = redis.call('HMGET', it.at, 'session', 'epoch')
        return row[1] ~= it.session or row[2] ~= it.epoch, false
    end
    local row = redis.call('GET', it.at)
    if it.kind == 'absent' then return row ~= false, row end
    return not row or num((parse(row))) ~= it.version, row
end

-- `base .. 'r:'` and a run: the piles its sessions own. `base .. 'runs'`: the runs that own any.
local function plan_disown(pile, session)
    local runs, run = base .. 'runs', string.sub(session, 1, 16)
    local its = base .. 'r:' .. run
    redis.call('ZCARD', runs)
    local left = redis.call('ZCARD', its)
    if redis.call('ZSCORE', its, pile) then left = left - 1 end
    plan('ZREM', its, pile)
    if left == 0 then plan('ZREM', runs, run) end
end

local function plan_own(pile, session)
    local runs, run = base .. 'runs', string.sub(session, 1, 16)
    redis.call('ZCARD', runs)
    redis.call('ZCARD', base .. 'r:' .. run)
    plan('ZADD', base .. 'r:' .. run, 0, pile)
    plan('ZADD', runs, 0, run)
end

-- Former owners, oldest first, each with a space behind it: with `owner`, without `session`, the last `remembered`.
local function with_superseded(superseded, owner, session, remembered)
    local all = {}
    for other in string.gmatch(superseded, '%S+') do
        if other ~= session then all[#all + 1] = other end
    end
    if owner and owner ~= session then all[#all + 1] = owner end
    while #all > tonumber(remembered) do table.remove(all, 1) end
    return #all > 0 and table.concat(all, ' ') .. ' ' or ''
end
