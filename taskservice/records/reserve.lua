#!lua
-- The first request with an Idempotency-Key runs, the others learn what became of it. Redis' own clock decides.
-- KEYS[1] the reservation (hash)
-- ARGV[1] fingerprint of the request   ARGV[2] a task id, if it is the first   ARGV[3] in flight for so many ms
-- ARGV[4] seconds to keep it           Answers {outcome, task id, answer}.

local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local known = redis.call('HMGET', KEYS[1], 'fingerprint', 'task_id', 'state', 'until_ms', 'answer')
local fingerprint, task_id, state, until_ms, answer = known[1], known[2], known[3], tonumber(known[4] or 0), known[5]

if fingerprint and fingerprint ~= ARGV[1] then return {'mismatch', task_id, ''} end
if state == 'accepted' then return {'replayed', task_id, answer} end
if state == 'in_flight' and now_ms < until_ms then return {'in_flight', task_id, ''} end

task_id = task_id or ARGV[2]
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'task_id', task_id, 'state', 'in_flight',
  'until_ms', string.format('%d', now_ms + tonumber(ARGV[3])))
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {'reserved', task_id, ''}
