-- What each change of a status brings with it: the index, the counts, the event stream, the outbox.

local MAX_EVENTS = 100000
local BUCKETS_MS = {5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 120000, 300000, 600000, 1800000,
  3600000} -- upper bounds; measures.py has the same
local PACE_S = 3720 -- an hour, and the minute that is not over
local EVENT = {running = 'started'} -- where the event's name is not the status
local TIES_PER_MS = 4096 -- index.py has the same

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
  local hex = redis.sha1hex(task.id .. ':' .. version .. ':' .. event)
  local id = string.format('%s-%s-5%s-a%s-%s', hex:sub(1, 8), hex:sub(9, 12), hex:sub(14, 16), hex:sub(18, 20), hex:sub(21, 32))
  redis.call('ZADD', 'outbox', whole(now_ms), table.concat({id, task.id, event, version}, ' '))
end

-- A change that has no event, such as a moved due_at: whoever kept what he read must learn that it is old.
local function touch(task) return redis.call('HINCRBY', task.key, 'version', 1) end

local function emit(task, event)
  local version = touch(task)
  redis.call('XADD', 'events', 'MAXLEN', '~', MAX_EVENTS, '*', 'task_id', task.id, 'event', event,
    'status', task.status, 'attempt', task.attempt, 'task_type', task.type, 'priority', task.priority,
    'version', version, 'at_ms', whole(now_ms))
  if task.callback_events and string.find(task.callback_events, '"' .. event .. '"', 1, true) then
    post(task, event, version)
  end
end

local function waiting(task) return 'waiting:' .. task.queue end

-- In this status, where is its message? Kept so that it can be published again when the broker has lost it.
local function expect_message(task, status)
  if IN_QUEUE[status] then
    redis.call('ZADD', waiting(task), whole(math.max(task.due_at_ms, now_ms)), task.id)
  elseif IN_QUEUE[task.status] then
    redis.call('ZREM', waiting(task), task.id)
  end
end

-- Each change is one event: a status that stays has none.
local function move(task, status)
  expect_message(task, status)
  if task.status == status then
    touch(task)
    return
  end
  for _, key in ipairs(cells(task, task.status)) do redis.call('ZREM', key, task.id) end
  for _, key in ipairs(cells(task, status)) do redis.call('ZADD', key, task.score, task.id) end
  count_in_batch(task, status, 1)
  count_in_batch(task, task.status, -1)
  tally(task, status)
  task.status = status
  redis.call('HSET', task.key, 'status', status)
  emit(task, EVENT[status] or status)
end

-- The order of acceptance, whoever creates the record first.
local function score_of(new)
  return string.format('%.0f', new.created_at_ms * TIES_PER_MS + math.min(new.sequence, TIES_PER_MS - 1))
end

-- A refusal of an earlier try goes; what a running task has marked since Redis lost its record stays.
local function clear(key)
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if field:sub(1, 5) ~= 'mark:' then redis.call('HDEL', key, field) end
  end
  redis.call('PERSIST', key)
end

local function create(id)
  local new = details.creation
  local task = {
    id = id, key = 'task:' .. id, status = new.status, attempt = 0, type = new.type, priority = new.priority,
    score = score_of(new), tags = new.tags, due_at_ms = new.due_at_ms, slot_ms = 0, copies_until_ms = 0,
    expires_at_ms = new.expires_at_ms, callback_events = new.callback_events, batch_id = new.batch_id,
    queue = new.queue or shared_queue(new.priority),
  }
  clear(task.key)
  redis.call('HSET', task.key, 'submission', new.submission, 'status', task.status, 'attempt', 0,
    'type', task.type, 'priority', task.priority, 'score', task.score, 'due_at_ms', whole(task.due_at_ms))
  if new.queue then redis.call('HSET', task.key, 'queue', new.queue) end
  if task.tags then redis.call('HSET', task.key, 'tags', task.tags) end
  if task.callback_events then redis.call('HSET', task.key, 'callback_events', task.callback_events) end
  if task.batch_id then redis.call('HSET', task.key, 'batch_id', task.batch_id) end
  if task.expires_at_ms then
    redis.call('HSET', task.key, 'expires_at_ms', whole(task.expires_at_ms))
    redis.call('ZADD', 'deadlines', whole(task.expires_at_ms), id)
  end
  expect_message(task, task.status)
  if task.status == 'scheduled' then redis.call('ZADD', 'due', whole(task.due_at_ms), id) end
  for _, key in ipairs(cells(task, task.status)) do redis.call('ZADD', key, task.score, id) end
  count_in_batch(task, task.status, 1)
  redis.call('SADD', 'task_types', task.type)
  tally(task, 'accepted')
  tally(task, task.status)
  emit(task, task.status)
  return task
end
