-- A sign of life. KEYS: group, recalls. ARGV: id, what ('join', 'beat', 'leave'), the epoch that the replica knows
-- ('' if none), a new epoch, and for 'join' the replicas that it knew.
local id, what, known, fresh = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local function write(...) redis.call('HSET', KEYS[1], ...) end
local stamp = string.format('%.3f', now)

if what == 'leave' then
    redis.call('HDEL', KEYS[1], 'm:' .. id)
    return { 'ok' }
end
redis.call('PEXPIRE', KEYS[1], 3600000)

if what == 'join' then
    if not group.e then
        group.e = fresh
        write('e', fresh, 'b', stamp, 'w', stamp, 't', stamp)
    end
    if known ~= '' and known ~= group.e then
        -- Everything was lost. Who was there is still owed its share, until it has told what it admitted.
        for i = 5, #ARGV do
            if not group.members[ARGV[i]] then write('m:' .. ARGV[i], '-' .. stamp) end
        end
    end
    if not group.members[id] then
        write('m:' .. id, known == '' and stamp or '-' .. stamp)
    end
    redis.call('PEXPIRE', KEYS[1], 3600000)
    return { 'ok', group.e }
end

if group.e ~= known or not group.members[id] then return { 'stale' } end
local awake = tonumber(group.w)
if now - tonumber(group.t) > GAP then awake = now end
write('m:' .. id, stamp, 't', stamp, 'w', string.format('%.3f', awake))
local answer = { 'ok', '', '' }
local ids, away = {}, 0
for member, is in pairs(group.members) do
    -- While nobody could be heard, nobody is forgotten.
    if member ~= id and is.silence > FORGOTTEN and now - awake > FORGOTTEN then
        redis.call('HDEL', KEYS[1], 'm:' .. member)
    else
        ids[#ids + 1] = member
        if member ~= id and is.away then away = away + 1 end
    end
end
answer[2] = tostring(away)
answer[3] = table.concat(ids, ' ')
local recalls = redis.call('HGETALL', KEYS[2])
for i = 1, #recalls do answer[#answer + 1] = recalls[i] end
return answer
