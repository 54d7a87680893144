local own, pile, session, epoch, remembered = key(), arg(), arg(), arg(), arg()
local row = redis.call('HMGET', own, 'session', 'epoch', 'superseded')
if row[1] ~= session or row[2] ~= epoch then return 0 end
plan_disown(pile, session)
plan('HDEL', own, 'session', 'previous_session', 'previous_epoch')
plan('HSET', own, 'superseded', with_superseded(row[3] or '', session, nil, remembered))
apply()
return 1
