-- One exchange of a host with its fleet: results in, wanted questions in; tickets, answers and the time out.
-- Hosts that wait for a question that is answered here get the answer at once, on channels of their own.
--
-- The only code that changes the shared state, so every step of it happens whole or not at all. All times are seconds of
-- this server's clock. A question is its own text. It is in one of three places:
--
--     traffic, age    it waits for a call; scores: pending bytes, and since when it waits. Questions without a place in
--                     "age" get spare calls only
--     flight, later   a host has a ticket for it, or it may not be asked again yet; "later" says until when
--     answers, stored it was answered; its answer and the time of storing
--
-- "wanted" says when a host last wanted the question. What no host wants any more leaves the queue. "waiters" says which
-- hosts: its members are QUESTION, a line feed, HOST, all with the same score, so those of a question lie together.

local STATE, TRAFFIC, AGE, WANTED, FLIGHT, LATER, ANSWERS, STORED, WAITERS, HOSTS = unpack(KEYS)
local version, host, new_epoch = ARGV[1], ARGV[2], ARGV[3]
local rate, burst, size = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local recheck, lease = tonumber(ARGV[7]), tonumber(ARGV[8])
local slots, repeats, cursor, notice = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12]
local done, failed, wants = tonumber(ARGV[13]), tonumber(ARGV[14]), tonumber(ARGV[15])
local at = 15

local LIVE = 20          -- a host that was not here for so long may use its own share of the rate: it counts as missing
local MISSING = 86400    -- and does so for this time
local FAILED = 60        -- one whose exchange fails on the server counts as missing for this time after the last attempt
local LEAST = 0.1        -- part of the rate that is left if more hosts than fleet.size are missing
local SETTLE = 5         -- a server without state grants nothing for so long: hosts may still use their own share
local UNWANTED = 45      -- a question that no host wanted again for so long leaves the queue
local HOLD = 300         -- answers are kept for so long
local STATE_TTL = 300    -- and all of it, if no host comes any more
local LACK = 60          -- the bucket lacks the calls of so many seconds at most
local JUMP = 0.5         -- the clock may go back by this much
local FAIR = 4           -- one call in this many goes to the question that has waited longest
local FULL = 100000      -- questions in the queue
local LOST = 2000        -- tickets among which those of one host are looked for; with more they run out in time
local ANSWERED = 500     -- answered questions reported in one exchange
local AT_A_TIME = 50     -- questions tidied up in one exchange
local AHEAD = 0.1        -- calls are granted for so many seconds ahead: who waits for a token need not come again
local PUSHED = 16384     -- a larger answer is not pushed, only that it is there
local CHANNEL = string.sub(STATE, 1, -6) .. 'to:' -- and the name of a host

local call = redis.call
local clock = call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local function text(number) return string.format('%.6f', number) end

if notice == 'leave' then
    call('ZREM', HOSTS, host)
    return {text(now)}
end
-- First, since a full server refuses the first write of a script, but not the ones that follow. Until the end of the
-- script the host counts as missing: it uses its own share after every failure that this script ends with.
call('ZADD', HOSTS, now - MISSING + FAILED, host)

-- Earlier starts of this host, which was killed and runs again: the name before the last "/" is the same. They were seen
-- last before this start.
local place, started = string.match(host, '^.*/'), tonumber(string.match(notice, '^start (.*)'))
if started and place then
    for _, name in ipairs(call('ZRANGEBYSCORE', HOSTS, '-inf', now - math.max(LIVE, started))) do
        if name ~= host and string.sub(name, 1, #place) == place then call('ZREM', HOSTS, name) end
    end
end

-- The state, or a new one.
local known = call('HMGET', STATE, 'version', 'epoch', 'last', 'tokens', 'filled', 'turn', 'ticket', 'rate', 'lowered',
    'tidied', 'live', 'missing')
-- Another program may have written to it: a value that no exchange writes counts as none.
if known[1] and not string.match(known[1], '^%d%d?%d?%d?$') then known = {} end
if known[1] and known[1] ~= version then
    return redis.error_reply('FLEETVERSION ' .. known[1])
end
local function value(index, least, most)
    local number = tonumber(known[index] or nil)
    if number and number >= least and number <= most then return number end
end
local function count(index, most)
    local number = value(index, 0, most)
    if number and number % 1 == 0 then return number end
end
local epoch, last, filled = string.match(string.sub(known[2] or '', 1, 99), '^%w+$'), value(3, 0, 1e12), value(5, 0, 1e12)
local tokens = value(4, -1e12, 1e12)
local turn, ticket, tidied = count(6, FAIR - 1) or 0, count(7, 1e12) or 0, value(10, 0, now + JUMP) or 0
local lowest, lowered = value(8, 1e-6, 1e6) or rate, value(9, 0, now + JUMP) or 0
local live, missing = count(11, 1e6), count(12, 1e6)
if not (epoch and last and tokens and filled) or now < last - JUMP or notice == 'jump' then
    local fresh = not epoch
    call('DEL', TRAFFIC, AGE, WANTED, FLIGHT, LATER, ANSWERS, STORED, WAITERS)
    epoch, tokens, filled, tidied, lowered = new_epoch, 0, now, now, 0
    if fresh then filled = now + SETTLE end
end

-- Hosts, counted once a second. Each that is missing may spend its own share, taken from the rate of the others.
local tidying = now - tidied > 1 or not (live and missing) or started
if tidying then
    tidied = now
    live = call('ZCOUNT', HOSTS, now - LIVE, '+inf') + 1
    missing = call('ZCOUNT', HOSTS, now - MISSING, '(' .. text(now - LIVE)) - 1
end

-- Most exchanges only show that a host is there. They leave the state as it is, at most a second old.
local due = call('ZRANGEBYSCORE', LATER, '-inf', now, 'LIMIT', 0, AT_A_TIME)
if done + failed + wants + repeats + cursor == 0 and notice == '' and epoch == known[2] and not tidying
    and not due[1] and call('ZCARD', TRAFFIC) == 0 then
    call('ZADD', HOSTS, now, host)
    return {text(now), epoch, text(now), '', '', '', '', '', 0, '0', live, missing, '0', tostring(lowest), ''}
end

-- Tokens. Where hosts are configured differently, the lowest rate of the last minute counts. If no host was here for long
-- (a server that could not be reached or written), all of them may have used their own shares: the bucket starts empty.
if last and now - last > LIVE then tokens, filled = math.min(tokens, 0), math.max(filled, now) end
if rate <= lowest or now - lowered > 60 then lowest, lowered = rate, now end
local left = lowest * math.max(LEAST, 1 - missing / size)
if now > filled then
    tokens, filled = math.min(burst, tokens + (now - filled) * left), now
elseif filled > now + SETTLE then
    filled = now
end
tokens = math.max(-1 - LACK * lowest, math.min(burst, tokens))

local function forget(question)
    call('ZREM', TRAFFIC, question)
    call('ZREM', AGE, question)
    call('ZREM', WANTED, question)
    call('ZREM', LATER, question)
    call('HDEL', FLIGHT, question)
end

-- A message to a host. A user without the right to publish costs the others some time, not their exchange.
local function push(name, ...) redis.pcall('PUBLISH', CHANNEL .. name, table.concat({...}, '\n')) end

-- The members of "waiters" about a question, as bounds.
local function about(question) return '[' .. question .. '\n', '(' .. question .. '\11' end

-- What "flight" keeps of a question: its ticket ('0': none), its scores, and the host with the ticket.
local function unpacked(kept) return string.match(kept, '^(%d+) (%S+) (%S*) (.*)$') end

local function flying(question)
    local kept = call('HGET', FLIGHT, question)
    if kept then return unpacked(kept) end
end

local function put_off(question, number, bytes, since, until_)
    call('HSET', FLIGHT, question, number .. ' ' .. bytes .. ' ' .. (since or '') .. ' ' .. host)
    call('ZADD', LATER, until_, question)
end

local function queue(question, bytes, since)
    call('ZADD', TRAFFIC, bytes, question)
    if since and since ~= '' then call('ZADD', AGE, since, question) end
end

-- Questions whose ticket ran out, because its host was killed, and those that may be asked again.
for _, question in ipairs(due) do
    local _, bytes, since = flying(question)
    call('ZREM', LATER, question)
    call('HDEL', FLIGHT, question)
    if bytes and call('ZSCORE', WANTED, question) then queue(question, bytes, since) end
end

-- Tickets that the host was granted in a reply it did not get. Their place in the budget is lost.
if notice == 'lost' and call('HLEN', FLIGHT) <= LOST then
    local has = {}
    for index = at + 3 * done + 3 * failed + 4 * wants + 1, #ARGV do has[ARGV[index]] = true end
    local all = call('HGETALL', FLIGHT)
    for index = 1, #all, 2 do
        local number, bytes, since, holder = unpacked(all[index + 1])
        if holder == host and number ~= '0' and not has[number] then
            call('ZREM', LATER, all[index])
            call('HDEL', FLIGHT, all[index])
            if call('ZSCORE', WANTED, all[index]) then queue(all[index], bytes, since) end
        end
    end
end

-- Questions answered since the host's last exchange, before its own results are stored.
local answered, next_cursor = {}, now
if cursor > 0 then
    local found = call('ZRANGEBYSCORE', STORED, '(' .. ARGV[11], '+inf', 'WITHSCORES', 'LIMIT', 0, ANSWERED)
    for index = 1, #found do answered[index] = found[index] end
    if #found == 2 * ANSWERED then next_cursor = tonumber(found[#found]) end
end

-- Results of the host's calls. One without an answer in it is not shared.
for _ = 1, done do
    local question, number, answer = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    at = at + 3
    if flying(question) == number then
        forget(question)
        if answer ~= '' then
            call('HSET', ANSWERS, question, answer)
            call('ZADD', STORED, now, question)
            local low, high = about(question)
            local waiters = call('ZRANGEBYLEX', WAITERS, low, high)
            for index = 1, #waiters do
                local name = string.sub(waiters[index], #question + 2)
                if name ~= host then push(name, question, text(now), epoch, #answer <= PUSHED and answer or '') end
            end
            if #waiters > 0 then call('ZREMRANGEBYLEX', WAITERS, low, high) end
        end
    end
end
for _ = 1, failed do
    local question, number, pause = ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
    at = at + 3
    local current, bytes, since = flying(question)
    if current == number then
        pause = math.max(pause, recheck)
        put_off(question, '0', bytes, since, now + pause)
        local low, high = about(question)
        call('ZREM', WAITERS, question .. '\n' .. host) -- it has the failure
        local waiter = call('ZRANGEBYLEX', WAITERS, low, high, 'LIMIT', 0, 1)[1]
        if waiter then push(string.sub(waiter, #question + 2), '', text(pause)) end -- one of them asks again
    end
end

-- Questions that the host wants.
local held, refused, again = {}, {}, math.huge
local room = wants > 0 and FULL - call('ZCARD', TRAFFIC) - call('HLEN', FLIGHT)
for _ = 1, wants do
    local question, more, delay, since = ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3], tonumber(ARGV[at + 4])
    at = at + 4
    local stored = tonumber(call('ZSCORE', STORED, question) or nil)
    if stored and stored > since then
        held[#held + 1] = question
        held[#held + 1] = text(stored)
    else
        local number, wanted = flying(question), true
        if number == '0' then
            again = math.min(again, tonumber(call('ZSCORE', LATER, question) or now))
        elseif not number and stored and now - stored < recheck then
            put_off(question, '0', more, delay ~= '' and text(now + tonumber(delay)) or '', stored + recheck)
            again = math.min(again, stored + recheck)
        elseif not number then
            wanted = room > 0 or call('ZSCORE', TRAFFIC, question)
            if wanted then
                call('ZINCRBY', TRAFFIC, more, question)
                if delay ~= '' then call('ZADD', AGE, 'LT', now + tonumber(delay), question) end
            else
                refused[#refused + 1] = question
            end
        end
        if wanted then
            if call('ZADD', WANTED, now, question) == 1 then room = room - 1 end
            call('ZADD', WAITERS, 0, question .. '\n' .. host)
        end
    end
end

-- The right to a call: seconds until it may begin, or nil. Calls are granted a little ahead of their tokens.
local ahead = 1 - math.max(1, AHEAD * left)
local function book(least)
    if tokens < least or now < filled then return nil end
    tokens = tokens - 1
    return math.max(0, -tokens / left)
end

-- Repeats of failed exchanges come first, since their question holds its ticket already.
local granted = {}
for index = 1, repeats do
    local wait = book(ahead)
    if not wait then break end
    granted[index] = text(wait)
end

-- Tickets. Three of four go to the largest traffic, one to the question that has waited longest. A question that no flow
-- waits for gets none ahead, or one that hurries would come after it.
local tickets = {}
while slots > 0 do
    local following = (turn + 1) % FAIR
    local question = following == 0 and call('ZRANGE', AGE, 0, 0)[1]
    if not question then question = call('ZREVRANGE', TRAFFIC, 0, 0)[1] end
    if not question then break end
    local bytes, since = call('ZSCORE', TRAFFIC, question) or '0', call('ZSCORE', AGE, question)
    if not since and tokens < math.floor(burst / 2) + 1 then break end -- a spare call leaves half of the burst
    local wait = book(tonumber(bytes) > 0 and ahead or 1)
    if not wait then break end
    turn = following
    call('ZREM', TRAFFIC, question)
    call('ZREM', AGE, question)
    ticket, slots = ticket + 1, slots - 1
    put_off(question, tostring(ticket), bytes, since or '', now + wait + lease)
    tickets[#tickets + 1] = question
    tickets[#tickets + 1] = tostring(ticket)
    tickets[#tickets + 1] = text(wait)
end

-- Tidy up, a little at a time.
if tidying then
    for _, question in ipairs(call('ZRANGEBYSCORE', WANTED, '-inf', now - UNWANTED, 'LIMIT', 0, AT_A_TIME)) do
        if flying(question) then call('ZREM', WANTED, question) else forget(question) end
        call('ZREMRANGEBYLEX', WAITERS, about(question))
    end
    for _, question in ipairs(call('ZRANGEBYSCORE', STORED, '-inf', now - HOLD, 'LIMIT', 0, AT_A_TIME)) do
        call('ZREM', STORED, question)
        call('HDEL', ANSWERS, question)
    end
    call('ZREMRANGEBYSCORE', HOSTS, '-inf', now - MISSING)
    for index = 1, #KEYS do call('EXPIRE', KEYS[index], KEYS[index] == HOSTS and MISSING or STATE_TTL) end
end
call('ZADD', HOSTS, now, host)
call('HSET', STATE, 'version', version, 'epoch', epoch, 'last', text(now), 'tokens', text(tokens),
    'filled', text(filled), 'turn', turn, 'ticket', ticket, 'rate', tostring(lowest), 'lowered', text(lowered),
    'tidied', text(tidied), 'live', live, 'missing', missing)

local oldest = call('ZRANGE', AGE, 0, 0, 'WITHSCORES')[2]
local largest = call('ZREVRANGE', TRAFFIC, 0, 0, 'WITHSCORES')[2]
local least = largest and tonumber(largest) <= 0 and 1 or ahead
local wait = math.max(0, filled - now) + math.max(0, least - tokens) / left
return {
    -- Long lists as one text each: that is quick to read.
    text(now), epoch, text(next_cursor), table.concat(tickets, '\n'), table.concat(held, '\n'),
    table.concat(answered, '\n'), table.concat(refused, '\n'), table.concat(granted, '\n'), call('ZCARD', TRAFFIC),
    text(oldest and math.max(0, now - tonumber(oldest)) or 0), live, missing, text(wait), tostring(lowest),
    again < math.huge and text(math.max(0, again - now)) or '',
}
