-- Offsets have no gaps, so a number of entries is a difference of offsets. The newest entry stays.
local log, before, limit = key(), tonumber(arg()), tonumber(arg())
local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
if not first then return 0 end
local from = tonumber(string.match(first[1], '^%d+'))
before = math.min(before, log_end(), from + limit)
if before <= from then return 0 end
plan('XTRIM', log, 'MINID', num(before) .. '-0')
apply()
return before - from
