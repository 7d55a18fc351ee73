-- What both scripts begin with: the time, and who belongs to the group.
-- KEYS[1]: a hash. e: the epoch, b: when that began, w: since when somebody was heard without a gap,
-- t: when somebody was heard last, m:<id>: when this replica was heard last, negative if it was not heard in
-- this epoch yet. Times are milliseconds.
local UNHEARD, GATHERING, FORGOTTEN, GAP = 400, 1000, 60000, 1000

local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local group = { members = {}, count = 0, away = 0, lost = 0 }
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if string.sub(name, 1, 2) == 'm:' then
        local heard = tonumber(value)
        local silence = math.max(0, now - math.abs(heard))
        local lost = heard < 0
        local away = lost or silence > UNHEARD
        group.members[string.sub(name, 3)] = { silence = silence, lost = lost, away = away }
        group.count = group.count + 1
        if lost then group.lost = group.lost + 1 end
        if away then group.away = group.away + 1 end
    else
        group[name] = value
    end
end
