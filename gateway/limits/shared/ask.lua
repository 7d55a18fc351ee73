-- What a replica has to say of one meter, and to ask of it. KEYS: group, meter, recalls.
-- The meter is a hash. l: the level, a: when it was that, h: of the level, what would have leaked were nobody away,
-- e: the epoch of the last question, f: the highest level that anybody remembered since all was lost, m:<id>: what is kept back for this replica,
-- the number of its last question, and what that was granted.
local id, epoch, seq = ARGV[1], ARGV[2], tonumber(ARGV[3])
local want, keep, share = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local debt, back, floor = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local capacity, leaks, ends, name = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12]), ARGV[13]
-- Whether the floor was seen in an epoch before this one.
local lost = ARGV[14] == '1'
if group.e ~= epoch or not group.members[id] then return 'stale' end

local meter, kept, own = { l = 0, a = now, h = 0, f = 0 }, {}, nil
fields = redis.call('HGETALL', KEYS[2])
for i = 1, #fields, 2 do
    local field, value = fields[i], fields[i + 1]
    if field == 'e' then
        meter.e = value
    elseif string.sub(field, 1, 2) ~= 'm:' then
        meter[field] = tonumber(value)
    else
        local member = string.sub(field, 3)
        local reserve, last, granted = string.match(value, '^(%S+) (%S+) (%S+)$')
        if member == id then
            own = { reserve = tonumber(reserve), seq = tonumber(last), granted = tonumber(granted) }
        elseif group.members[member] then
            kept[member] = tonumber(reserve)
        else
            redis.call('HDEL', KEYS[2], field)
        end
    end
end

-- Who is away leaks its part of the rate by itself.
local count, away = group.count, group.away
local leak = math.max(0, now - meter.a) * leaks
local withheld = leak * away / count
local level = math.max(0, meter.l - (leak - withheld))
local held = away > 0 and math.min(level, meter.h + withheld) or 0
if away == 0 then level = math.max(0, level - meter.h) end
local remembered = math.max(0, meter.f - leak)
-- What outlived its epoch is remembered too, so that nobody's memory is added to it.
if meter.e and meter.e ~= epoch then remembered = level end

local again = own and own.seq >= seq
if not again then
    level = math.max(0, level - back)
    if lost then
        -- All that was granted and reported since comes on top of what was before.
        level = level + math.max(0, floor - remembered)
        remembered = math.max(floor, remembered)
    else
        level = math.max(level, floor)
    end
    local covered = math.min(held, debt)
    held = held - covered
    level = level + debt - covered
end

-- What the others may admit without asking. Who is alone has it all.
if count == 1 and share > 0 then share = 1 end
local function part(rest) return math.floor(share * math.max(0, rest) / count) end
local others, most = 0, 0
for member, is in pairs(group.members) do
    if member ~= id then
        -- Who has not told yet may have what was its part when all was lost.
        local reserve = kept[member] or (is.lost and part(capacity - remembered)) or 0
        if is.away then
            reserve = math.max(reserve, math.min(capacity / count, reserve + leaks * is.silence / count))
        else
            most = math.max(most, reserve)
        end
        others = others + reserve
    end
end
local free = capacity - level - others
local waited_for = group.lost - (group.members[id].lost and 1 or 0)
local gathering = waited_for > 0 and now - tonumber(group.b) < GATHERING

local granted, reserve = 0, 0
if again then
    granted, reserve = own.seq == seq and own.granted or 0, own.reserve
else
    if not gathering then granted = math.max(0, math.min(want, math.floor(free))) end
    level, free = level + granted, free - granted
    -- While others may still have what they do not tell, nobody gets more than it has.
    local due = gathering and 0 or part(capacity - level)
    reserve = math.max(0, math.min(math.max(keep, due), math.floor(free)))
    own = { reserve = reserve, seq = seq, granted = granted }
end

local why = '-'
if gathering then
    why = 'gathering'
elseif granted < want and most > part(capacity - level) then
    -- Others keep more back than is theirs by now: at their next beat they hear of it.
    why = 'contended'
    if redis.call('HLEN', KEYS[3]) < 64 then
        redis.call('HSET', KEYS[3], name, string.format('%d', math.max(0, capacity - level)))
        redis.call('PEXPIRE', KEYS[3], 300)
    end
end

redis.call('HSET', KEYS[2], 'e', epoch,
    'l', string.format('%.17g', level), 'a', string.format('%.3f', now),
    'h', string.format('%.17g', math.min(held, level)), 'f', string.format('%.17g', remembered),
    'm:' .. id, string.format('%d %d %d', own.reserve, own.seq, own.granted))
local lives = math.max(leaks > 0 and level / leaks or 0, ends > 0 and ends - now or 0)
if leaks == 0 and ends == 0 then lives = 86400000 end
redis.call('PEXPIRE', KEYS[2], string.format('%d', math.min(lives, 35000000000) + 120000))
return string.format('ok %d %d %.6f %.6f %d %d %s', granted, reserve, level, free, count, away, why)
