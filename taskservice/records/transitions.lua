#!lua
-- The line above makes a full Redis refuse the whole script; without it, it would stop in the middle of a transition.
-- Every transition of a task's record, each atomic. The one place where status changes, and with it the index, the
-- timers and the event stream. Redis' own clock times everything, so that machines with skewed clocks agree.
-- KEYS[1] the task's record   ARGV[1] the action   ARGV[2] its details (JSON)   Answers with a word or a list.
--
-- task:{id}                hash: the record
-- cell:{status}:{type}:{priority}, tagged:{status}:{type}:{priority}:{tag}
--                          zsets of ids, by creation: each task is in one cell, and in one per tag
-- deliveries:{id}          hash: the webhooks of a task (deliveries.py)
-- batch:{id}               hash: how many tasks of a batch have each status
-- run_times                hash: per type, how long it ran until it succeeded, in ms; the mean of late
-- due, deadlines, leases, expiring
--                          zsets of ids by the moment (ms) at which `sweep` looks at them
-- events                   stream: every change, oldest trimmed
-- counters                 hash: {status}:{type}:{priority}, how often a task entered it; `accepted` counts creations
-- pace:{minute}            hash: {ten seconds}:{status}:{type}, the same count for an hour
-- durations                hash: {wait or run}:{type}:{priority}:{bucket}, and its sum; ms from due to the first start,
--                          and from an attempt's start to its end
-- outbox                   zset of "delivery task event version" by the moment from which it may be published

local MAX_EVENTS = 100000
local REFUSED_S = 31 * 86400 -- a tombstone outlives the longest delay a late copy can have
local SWEEP_AT_ONCE = 200
local BUCKETS_MS = {5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 120000, 300000, 600000, 1800000,
  3600000} -- upper bounds; measures.py has the same
local PACE_S = 3720 -- an hour, and the minute that is not over
local FINAL = {succeeded = true, failed = true, cancelled = true, expired = true}
local WAITING = {scheduled = true, queued = true, retrying = true}
local EVENT = {running = 'started'} -- where the event's name is not the status
local NEWEST_SHARE = 0.2 -- of the newest run in the mean of late

local details = cjson.decode(ARGV[2])
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function whole(number) return string.format('%d', number) end

local function load_task(id)
  local key = 'task:' .. id
  local got = redis.call('HMGET', key, 'status', 'attempt', 'delivery', 'type', 'priority', 'score', 'tags',
    'due_at_ms', 'expires_at_ms', 'may_reclaim', 'cancel_requested_at_ms', 'callback_events', 'batch_id')
  return {
    id = id, key = key, status = got[1], attempt = tonumber(got[2] or 0), delivery = got[3], type = got[4],
    priority = got[5], score = got[6], tags = got[7], due_at_ms = tonumber(got[8] or 0),
    expires_at_ms = got[9] and tonumber(got[9]), may_reclaim = got[10] == '1',
    cancel_requested_at_ms = got[11] and tonumber(got[11]), callback_events = got[12], batch_id = got[13],
  }
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

local function tally(task, what)
  redis.call('HINCRBY', 'counters', what .. ':' .. task.type .. ':' .. task.priority, 1)
  local second = math.floor(now_ms / 1000)
  local pace = 'pace:' .. whole(math.floor(second / 60))
  redis.call('HINCRBY', pace, whole(math.floor(second % 60 / 10)) .. ':' .. what .. ':' .. task.type, 1)
  redis.call('EXPIRE', pace, PACE_S)
end

local function measure(task, what, duration_ms)
  local place = what .. ':' .. task.type .. ':' .. task.priority .. ':'
  local bucket = 'inf'
  for _, bound in ipairs(BUCKETS_MS) do
    if duration_ms <= bound then
      bucket = whole(bound)
      break
    end
  end
  redis.call('HINCRBY', 'durations', place .. bucket, 1)
  redis.call('HINCRBY', 'durations', place .. 'sum', whole(math.max(0, duration_ms)))
end

-- The delivery's id follows from the change, so that publishing it twice is one delivery.
local function post(task, event, version)
  local hex = redis.sha1hex(task.id .. ':' .. version)
  local id = string.format('%s-%s-5%s-a%s-%s', hex:sub(1, 8), hex:sub(9, 12), hex:sub(14, 16), hex:sub(18, 20), hex:sub(21, 32))
  redis.call('ZADD', 'outbox', whole(now_ms), table.concat({id, task.id, event, version}, ' '))
end

local function emit(task, event)
  local version = redis.call('HINCRBY', task.key, 'version', 1)
  redis.call('XADD', 'events', 'MAXLEN', '~', MAX_EVENTS, '*', 'task_id', task.id, 'event', event,
    'status', task.status, 'attempt', task.attempt, 'task_type', task.type, 'priority', task.priority,
    'version', version, 'at_ms', whole(now_ms))
  if task.callback_events and string.find(task.callback_events, '"' .. event .. '"', 1, true) then
    post(task, event, version)
  end
end

local function move(task, status)
  if task.status ~= status then
    for _, key in ipairs(cells(task, task.status)) do redis.call('ZREM', key, task.id) end
    for _, key in ipairs(cells(task, status)) do redis.call('ZADD', key, task.score, task.id) end
    count_in_batch(task, status, 1)
    count_in_batch(task, task.status, -1)
    tally(task, status)
  end
  task.status = status
  redis.call('HSET', task.key, 'status', status)
  emit(task, EVENT[status] or status)
end

-- Milliseconds leave room for 4096 tasks each, so that tasks of one millisecond keep the order of their acceptance.
local function score_of(created_at_ms)
  local key = 'tie:' .. whole(created_at_ms)
  local tie = redis.call('INCR', key) - 1
  if tie == 0 then redis.call('PEXPIRE', key, 10000) end
  return string.format('%.0f', created_at_ms * 4096 + math.min(tie, 4095))
end

local function create(id)
  local new = details.creation
  local task = {
    id = id, key = 'task:' .. id, status = new.status, attempt = 0, type = new.type, priority = new.priority,
    score = score_of(new.created_at_ms), tags = new.tags, due_at_ms = new.due_at_ms,
    expires_at_ms = new.expires_at_ms, callback_events = new.callback_events, batch_id = new.batch_id,
  }
  redis.call('DEL', task.key) -- a refusal of an earlier try
  redis.call('HSET', task.key, 'submission', new.submission, 'status', task.status, 'attempt', 0,
    'type', task.type, 'priority', task.priority, 'score', task.score, 'due_at_ms', whole(task.due_at_ms))
  if task.tags then redis.call('HSET', task.key, 'tags', task.tags) end
  if task.callback_events then redis.call('HSET', task.key, 'callback_events', task.callback_events) end
  if task.batch_id then redis.call('HSET', task.key, 'batch_id', task.batch_id) end
  if task.expires_at_ms then
    redis.call('HSET', task.key, 'expires_at_ms', whole(task.expires_at_ms))
    redis.call('ZADD', 'deadlines', whole(task.expires_at_ms), id)
  end
  if task.status == 'scheduled' then redis.call('ZADD', 'due', whole(task.due_at_ms), id) end
  for _, key in ipairs(cells(task, task.status)) do redis.call('ZADD', key, task.score, id) end
  count_in_batch(task, task.status, 1)
  redis.call('SADD', 'task_types', task.type)
  tally(task, 'accepted')
  tally(task, task.status)
  emit(task, task.status)
  return task
end

local function end_attempt(task, err)
  local list = cjson.decode(redis.call('HGET', task.key, 'attempts') or '[]')
  local last = list[#list]
  if not last or last.finished_at_ms then return end
  last.finished_at_ms = now_ms
  last.error = err
  measure(task, 'run', now_ms - last.started_at_ms)
  redis.call('HSET', task.key, 'attempts', cjson.encode(list))
end

local function note_run_time(task)
  local list = cjson.decode(redis.call('HGET', task.key, 'attempts') or '[]')
  local last = list[#list]
  if not last then return end
  local run_ms = math.max(0, now_ms - last.started_at_ms)
  local mean_ms = tonumber(redis.call('HGET', 'run_times', task.type) or run_ms)
  redis.call('HSET', 'run_times', task.type, string.format('%.1f', mean_ms + (run_ms - mean_ms) * NEWEST_SHARE))
end

local function finish(task, status, err)
  end_attempt(task, err)
  redis.call('ZREM', 'leases', task.id)
  redis.call('ZREM', 'due', task.id)
  redis.call('ZREM', 'deadlines', task.id)
  redis.call('HDEL', task.key, 'error', 'may_reclaim', 'slot_ms')
  redis.call('HSET', task.key, 'finished_at_ms', whole(now_ms))
  if err and status == 'failed' then redis.call('HSET', task.key, 'error', cjson.encode(err)) end
  -- kept until no copy of its message can still be in the broker, then for the retention
  redis.call('ZADD', 'expiring', whole(math.max(task.due_at_ms, now_ms) + details.retention_ms), task.id)
  move(task, status)
  return status
end

local function hold(task, err, due_at_ms)
  end_attempt(task, err)
  redis.call('ZREM', 'leases', task.id)
  task.due_at_ms = due_at_ms
  redis.call('HSET', task.key, 'error', cjson.encode(err), 'due_at_ms', whole(due_at_ms))
  move(task, 'retrying')
  return 'retrying'
end

-- Its message comes back from the broker, with the same attempt's number. Lost ones are counted, returned ones are not.
local function give_up_attempt(task, is_lost)
  local text = is_lost and 'the worker was lost while it ran this attempt'
    or 'the worker stopped and handed this attempt back'
  local err = {code = 'worker_lost', message = text, retryable = true}
  if task.cancel_requested_at_ms then return finish(task, 'cancelled', err) end
  local lost = redis.call('HINCRBY', task.key, 'lost_deliveries', is_lost and 1 or 0)
  local has_no_message = redis.call('HEXISTS', task.key, 'orphaned') == 1
  if lost >= details.max_deliveries or has_no_message then
    redis.call('HSET', task.key, 'is_dead_letter', 1)
    err.message = 'its worker was lost ' .. lost .. ' times while it ran'
    return finish(task, 'failed', err)
  end
  redis.call('HSET', task.key, 'may_reclaim', 1)
  return hold(task, err, now_ms)
end

-- An attempt belongs to the delivery that claimed it, until another delivery does.
local function owns(task)
  return task.delivery == details.delivery
    and (task.status == 'running' or (task.status == 'retrying' and task.may_reclaim))
end

-- When the type's next start may be, in ms; reserves that slot (GCRA, kept as the theoretical arrival time).
local function reserve_slot(task)
  local slot_ms = tonumber(redis.call('HGET', task.key, 'slot_ms') or 0)
  if slot_ms > 0 then return slot_ms end
  local key = 'rate:' .. task.type
  local interval_ms = details.rate.period_ms / details.rate.count
  local arrival_ms = math.max(tonumber(redis.call('GET', key) or 0), now_ms)
  slot_ms = math.max(now_ms, math.ceil(arrival_ms - (details.rate.count - 1) * interval_ms))
  redis.call('SET', key, string.format('%.3f', arrival_ms + interval_ms),
    'PX', whole(math.ceil(arrival_ms + interval_ms - now_ms + details.rate.period_ms)))
  return slot_ms
end

local actions = {}

function actions.accept(task)
  if task.status and task.status ~= 'refused' then return 'kept' end
  create(task.id)
  return 'accepted'
end

function actions.refuse(task)
  if task.status and task.status ~= 'refused' then return 'claimed' end
  redis.call('HSET', task.key, 'status', 'refused')
  redis.call('EXPIRE', task.key, REFUSED_S)
  return 'refused'
end

function actions.lift(task)
  if task.status == 'refused' then redis.call('DEL', task.key) end
  return 'lifted'
end

local function grant(task)
  local is_next = details.attempt == task.attempt + 1
  if is_next then redis.call('HDEL', task.key, 'lost_deliveries') end
  if is_next and task.attempt == 0 then measure(task, 'wait', now_ms - details.creation.due_at_ms) end
  task.attempt, task.delivery = details.attempt, details.delivery
  local list = cjson.decode(redis.call('HGET', task.key, 'attempts') or '[]')
  list[#list + 1] = {number = task.attempt, worker = details.worker, started_at_ms = now_ms}
  redis.call('HDEL', task.key, 'progress', 'error', 'may_reclaim', 'slot_ms', 'is_settling', 'orphaned')
  redis.call('HSET', task.key, 'attempt', task.attempt, 'delivery', task.delivery, 'attempts', cjson.encode(list))
  redis.call('ZADD', 'leases', whole(now_ms + details.lease_ms), task.id)
  redis.call('ZREM', 'due', task.id)
  redis.call('ZREM', 'deadlines', task.id)
  move(task, 'running')
  return {'granted'}
end

local function put_off(task, slot_ms)
  redis.call('HSET', task.key, 'slot_ms', whole(slot_ms), 'due_at_ms', whole(slot_ms))
  if task.status == 'scheduled' then move(task, 'queued') else emit(task, task.status) end
  return {'wait', slot_ms - now_ms}
end

function actions.claim(task)
  if not task.status then
    task = create(task.id)
    task.attempt = details.attempt - 1 -- when Redis has lost the record, this may be a later attempt's message
    redis.call('HSET', task.key, 'attempt', task.attempt)
  end
  if task.status == 'refused' then return {'stale'} end
  if task.status == 'cancelled' or task.status == 'expired' then return {'revoked'} end
  if FINAL[task.status] then
    -- its message is a dead letter; one copy of it is enough
    if redis.call('HDEL', task.key, 'is_dead_letter') == 1 then
      redis.call('HSET', task.key, 'dead_letter_delivery', details.delivery)
    end
    local is_letter = redis.call('HGET', task.key, 'dead_letter_delivery') == details.delivery
    return {is_letter and 'dead_letter' or 'stale'}
  end
  if task.status == 'running' then
    if task.delivery == details.delivery then return {'granted'} end -- the first answer was lost
    if details.attempt < task.attempt then return {'stale'} end
    -- another delivery runs: this one waits until that has ended or its lease has lapsed
    return {'wait', math.max(1000, tonumber(redis.call('ZSCORE', 'leases', task.id) or 0) - now_ms)}
  end
  local expected = task.may_reclaim and task.attempt or task.attempt + 1
  if details.attempt ~= expected then return {'stale'} end
  if task.attempt == 0 and task.expires_at_ms and now_ms > task.expires_at_ms then
    finish(task, 'expired')
    return {'revoked'}
  end
  if redis.call('SISMEMBER', 'paused_queues', details.queue) == 1 then return {'paused'} end
  if details.rate then
    local slot_ms = reserve_slot(task)
    if slot_ms > now_ms then return put_off(task, slot_ms) end
  end
  return grant(task)
end

function actions.give_up(task)
  if not owns(task) or task.status ~= 'running' then return 'ignored' end
  return give_up_attempt(task, details.is_lost)
end

function actions.succeed(task)
  if not task.status then return 'missing' end
  if not owns(task) then return 'ignored' end
  redis.call('HSET', task.key, 'result', details.result)
  note_run_time(task)
  return finish(task, 'succeeded')
end

function actions.fail(task)
  if not task.status then return 'missing' end
  if not owns(task) then return 'ignored' end
  return finish(task, 'failed', details.error)
end

function actions.retry(task)
  if not task.status then return 'missing' end
  if not owns(task) then return 'ignored' end
  if task.cancel_requested_at_ms then return finish(task, 'cancelled', details.error) end
  redis.call('HDEL', task.key, 'may_reclaim')
  return hold(task, details.error, now_ms + details.delay_ms)
end

function actions.stop(task) -- what a client has cancelled, or an operator in Flower
  if not task.status or FINAL[task.status] or task.status == 'refused' then return 'ignored' end
  if task.status == 'running' and not owns(task) then return 'ignored' end
  return finish(task, 'cancelled')
end

function actions.progress(task)
  if task.status ~= 'running' or not owns(task) then return 'ignored' end
  redis.call('HSET', task.key, 'progress', cjson.encode(details.progress))
  emit(task, 'progress')
  return task.cancel_requested_at_ms and 'cancelled' or 'noted'
end

function actions.settling(task) -- its handler has ended; what is left waits for the broker
  if owns(task) then redis.call('HSET', task.key, 'is_settling', 1) end
  return 'noted'
end

function actions.cancel(task)
  if not task.status or task.status == 'refused' then return 'missing' end
  if FINAL[task.status] then return 'final' end
  if task.status == 'running' then
    if not task.cancel_requested_at_ms then
      redis.call('HSET', task.key, 'cancel_requested_at_ms', whole(now_ms))
      emit(task, 'cancel_requested')
    end
    return 'requested'
  end
  return finish(task, 'cancelled')
end

function actions.hasten(task)
  local may = task.status == 'scheduled' or task.status == 'retrying'
  if not may or details.attempt ~= task.attempt + 1 then return 'ignored' end
  redis.call('HSET', task.key, 'due_at_ms', whole(now_ms))
  redis.call('ZREM', 'due', task.id)
  if task.status == 'scheduled' then move(task, 'queued') else emit(task, task.status) end
  return 'hastened'
end

-- The broker gave up on its message: nothing will run it any more.
function actions.bury(task)
  if not task.status then
    if not details.creation then return 'unknown' end
    task = create(task.id)
  end
  if task.status == 'refused' or FINAL[task.status] then return 'kept' end
  if task.status == 'running' then -- then this was one copy too many, or the last: its lease decides
    redis.call('HSET', task.key, 'orphaned', 1)
    return 'kept'
  end
  return finish(task, 'failed', details.error)
end

-- The worker's main process: these deliveries still run here. Answers one state for each.
function actions.renew()
  local answers = {}
  for index, run in ipairs(details.runs) do
    local task = load_task(run.task_id)
    details.delivery = run.delivery
    if owns(task) then
      if task.status == 'retrying' then -- its lease had lapsed while the store was away
        redis.call('HDEL', task.key, 'may_reclaim', 'error')
        local lost = tonumber(redis.call('HGET', task.key, 'lost_deliveries') or 0)
        if lost > 0 then redis.call('HSET', task.key, 'lost_deliveries', lost - 1) end
        local list = cjson.decode(redis.call('HGET', task.key, 'attempts') or '[]')
        if #list > 0 then list[#list].finished_at_ms, list[#list].error = nil, nil end
        redis.call('HSET', task.key, 'attempts', cjson.encode(list))
        move(task, 'running')
      end
      redis.call('ZADD', 'leases', whole(now_ms + details.lease_ms), task.id)
      local since_ms = task.cancel_requested_at_ms
      local is_settling = redis.call('HEXISTS', task.key, 'is_settling')
      answers[index] = {'runs', since_ms and now_ms - since_ms or -1, is_settling}
    else
      answers[index] = {'ended', -1, 0}
    end
  end
  return answers
end

local function passed(timer)
  local ids = redis.call('ZRANGEBYSCORE', timer, '-inf', whole(now_ms), 'LIMIT', 0, SWEEP_AT_ONCE)
  local tasks = {}
  for index, id in ipairs(ids) do
    redis.call('ZREM', timer, id)
    tasks[index] = load_task(id)
  end
  return tasks
end

local function forget(task)
  if not task.status then return end
  for _, key in ipairs(cells(task, task.status)) do redis.call('ZREM', key, task.id) end
  count_in_batch(task, task.status, -1)
  redis.call('DEL', task.key, 'deliveries:' .. task.id)
end

function actions.sweep()
  local done = {0, 0, 0, 0}
  for _, task in ipairs(passed('due')) do
    if task.status == 'scheduled' then move(task, 'queued') end
    done[1] = done[1] + 1
  end
  for _, task in ipairs(passed('deadlines')) do
    if WAITING[task.status] and task.attempt == 0 then finish(task, 'expired') end
    done[2] = done[2] + 1
  end
  if details.may_judge_leases then
    for _, task in ipairs(passed('leases')) do
      if task.status == 'running' then give_up_attempt(task, true) end
      done[3] = done[3] + 1
    end
  end
  for _, task in ipairs(passed('expiring')) do
    if FINAL[task.status] then forget(task) end
    done[4] = done[4] + 1
  end
  redis.call('XTRIM', 'events', 'MINID', whole(now_ms - details.retention_ms))
  return done
end

-- Takes some of the outbox; what is not removed by then comes back after a while.
function actions.take_outbox()
  local taken = redis.call('ZRANGEBYSCORE', 'outbox', '-inf', whole(now_ms), 'LIMIT', 0, 100)
  for _, one in ipairs(taken) do redis.call('ZADD', 'outbox', whole(now_ms + details.hold_ms), one) end
  return taken
end

local action = actions[ARGV[1]]
if KEYS[1] then return action(load_task(string.sub(KEYS[1], 6))) end
return action()
