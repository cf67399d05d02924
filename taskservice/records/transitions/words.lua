-- What every script here starts with: the keys, the details, the clock, and a task as it is kept.
-- Redis' own clock times everything, so that machines with skewed clocks agree.
-- KEYS[1] the task's record   ARGV[1] the action   ARGV[2] its details (JSON)   Answers with a word or a list.
--
-- task:{id}                hash: the record
-- cell:{status}:{type}:{priority}, tagged:{status}:{type}:{priority}:{tag}
--                          zsets of ids, by creation: each task is in one cell, and in one per tag
-- deliveries:{id}          hash: the webhooks of a task (deliveries.py)
-- made_files:{id}          set: the files a task made, each with its version (made_files.py)
-- batch:{id}               hash: how many tasks of a batch have each status
-- run_times                hash: per type, how long it ran until it succeeded, in ms; the mean of late
-- due, deadlines, leases, expiring
--                          zsets of ids by the moment (ms) at which the keeper looks at them
-- waiting:{queue}          zset of ids by the moment (ms) from which their message is in that queue; until they run
-- overtaken                zset of queues by the newest such moment that was claimed: they are first in, first out
-- republished              hash: {type}:{priority}, how often a task's message was published again
-- unneeded_files           zset: files whose task was forgotten, by the moment at which they are looked at (made_files.py)
-- rate:{type}              the end of the line of those that a rate puts off: the moment (ms) of the next slot
-- starts:{type}            list, newest first: the last starts (ms) of a type with a rate, as many as its count
-- free_slots:{type}        zset of ids by start (ms): reserved, and not needed any more
-- events                   stream: every change, oldest trimmed
-- counters                 hash: {status}:{type}:{priority}, how often a task entered it; `accepted` counts creations
-- pace:{minute}            hash: {ten seconds}:{status}:{type}, the same count for an hour
-- durations                hash: {wait or run}:{type}:{priority}:{bucket}, and its sum; ms from due to the first start,
--                          and from an attempt's start to its end
-- outbox                   zset of "delivery task event version" by the moment from which it may be published
-- outbox_tries             hash: how often an entry of the outbox could not be written out (attempts.py)

local FINAL = {succeeded = true, failed = true, cancelled = true, expired = true}
local WAITING = {scheduled = true, queued = true, retrying = true}
local REFUSED_S = 31 * 86400 -- outlives the longest delay a late copy can have
local IN_QUEUE = {queued = true, retrying = true}

local details = cjson.decode(ARGV[2])
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local actions = {}

local function whole(number) return string.format('%d', number) end

-- A record names its task's queue only when that is its type's own.
local function shared_queue(priority) return priority and priority .. '_priority' end -- model.py has the same

local function load_task(id)
  local key = 'task:' .. id
  local got = redis.call('HMGET', key, 'status', 'attempt', 'delivery', 'type', 'priority', 'score', 'tags',
    'due_at_ms', 'expires_at_ms', 'may_reclaim', 'cancel_requested_at_ms', 'callback_events', 'batch_id', 'slot_ms',
    'queue', 'copies_until_ms')
  return {
    id = id, key = key, status = got[1], attempt = tonumber(got[2] or 0), delivery = got[3], type = got[4],
    priority = got[5], score = got[6], tags = got[7], due_at_ms = tonumber(got[8] or 0),
    expires_at_ms = got[9] and tonumber(got[9]), may_reclaim = got[10] == '1',
    cancel_requested_at_ms = got[11] and tonumber(got[11]), callback_events = got[12], batch_id = got[13],
    slot_ms = tonumber(got[14] or 0), queue = got[15] or shared_queue(got[5]),
    copies_until_ms = tonumber(got[16] or 0),
  }
end

-- All that is kept of a task that must not run, though a copy of its message may come.
local function refuse_copies(task)
  redis.call('HSET', task.key, 'status', 'refused')
  redis.call('EXPIRE', task.key, REFUSED_S)
end

-- A count that falls to nothing is removed, and with its last count the batch.
local function count_in_batch(task, status, change)
  if not task.batch_id then return end
  local key = 'batch:' .. task.batch_id
  if redis.call('HINCRBY', key, status, change) <= 0 then redis.call('HDEL', key, status) end
end

local function cells(task, status)
  local place = status .. ':' .. task.type .. ':' .. task.priority
  local keys = {'cell:' .. place}
  if task.tags then
    for _, tag in ipairs(cjson.decode(task.tags)) do keys[#keys + 1] = 'tagged:' .. place .. ':' .. tag end
  end
  return keys
end

-- The tasks whose moment has come, some at once. Each is taken off the timer just before its turn, so that a record that
-- cannot be handled stops no other: nothing is undone when a script fails.
local function passed(timer)
  local ids = redis.call('ZRANGEBYSCORE', timer, '-inf', whole(now_ms), 'LIMIT', 0, details.at_once)
  local place = 0
  return function()
    place = place + 1
    if not ids[place] then return nil end
    redis.call('ZREM', timer, ids[place])
    return load_task(ids[place])
  end
end
