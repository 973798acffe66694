-- What `flowmap fleet check` asks the server: which commands of exchange.lua this user may not run, and the fleet's state.
--
-- Every command runs on the two keys of the check, which are gone afterwards. The keys of the fleet are only read, so a
-- check is no host.

local ZSET, HASH, STATE, ANSWERS, STORED, HOSTS = unpack(KEYS)
local LIVE, MISSING = 20, 86400 -- as in exchange.lua

local denied, failure = {}, nil

-- A command's result; nil if it failed. Not allowed: that is noted. Another failure, as of a full server: the first counts.
local function try(command, ...)
    local result = redis.pcall(command, ...)
    if type(result) ~= 'table' or not result.err then return result end
    local reason = string.lower(result.err)
    if string.find(reason, 'acl failure') or string.find(reason, 'noperm') or string.find(reason, 'user executing') then
        denied[#denied + 1] = command
    else
        failure = failure or result.err
    end
end

local clock = try('TIME') or {'0', '0'}
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6

try('ZADD', ZSET, 0, 'a')
try('HSET', HASH, 'a', 'a')
try('EXPIRE', HASH, 60)
try('ZINCRBY', ZSET, 0, 'a')
try('ZCARD', ZSET)
try('ZCOUNT', ZSET, 0, 1)
try('ZSCORE', ZSET, 'a')
try('ZRANGE', ZSET, 0, 0)
try('ZREVRANGE', ZSET, 0, 0)
try('ZRANGEBYLEX', ZSET, '[b', '(c')
try('ZRANGEBYSCORE', ZSET, 1, 2)
try('ZREMRANGEBYLEX', ZSET, '[b', '(c')
try('ZREMRANGEBYSCORE', ZSET, 1, 2)
try('HGET', HASH, 'a')
try('HGETALL', HASH)
try('HLEN', HASH)
try('ZREM', ZSET, 'a')
try('HDEL', HASH, 'a')
try('DEL', ZSET, HASH)
try('PUBLISH', string.sub(STATE, 1, -6) .. 'to:' .. ARGV[1], '')

local state = try('HMGET', STATE, 'version', 'rate') or {}

-- Hosts by their place, the name before the last "/": one that was restarted a moment ago is one host.
local live, missing, places = 0, 0, {}
local names = try('ZRANGEBYSCORE', HOSTS, now - MISSING, '+inf', 'WITHSCORES') or {}
for index = #names - 1, 1, -2 do -- the latest first
    local place = string.match(names[index], '^.*/') or names[index]
    if not places[place] then
        places[place] = true
        if tonumber(names[index + 1]) >= now - LIVE then live = live + 1 else missing = missing + 1 end
    end
end
local question = (redis.pcall('ZREVRANGE', STORED, 0, 0) or {})[1] or ''
local answer = redis.pcall('HGET', ANSWERS, question)

if failure and #denied == 0 then return redis.error_reply(failure) end
return {
    string.format('%.6f', now), state[1] or '', state[2] or '', live, missing, question,
    type(answer) == 'string' and answer or '', table.concat(denied, ' '),
}
