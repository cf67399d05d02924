-- How an attempt ends, and with it perhaps the task.

local NEWEST_SHARE = 0.2 -- of the newest run in the mean of late

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

-- A start that was reserved under the type's rate and will not be made: another task may have it. Moving the arrival
-- time back instead would give the last start away twice.
local function free_slot(task)
  if task.slot_ms <= now_ms then return end
  local key = 'free_slots:' .. task.type
  redis.call('ZADD', key, whole(task.slot_ms), task.id)
  redis.call('PEXPIREAT', key, whole(task.slot_ms), 'NX')
  redis.call('PEXPIREAT', key, whole(task.slot_ms), 'GT')
end

-- One more message of this task is with the broker, and must not start it when its record has been forgotten.
local function expect_copy(task) redis.call('HINCRBY', task.key, 'message_waits', 1) end

local function meet_copy(task)
  if redis.call('HEXISTS', task.key, 'message_waits') == 0 then return end
  if redis.call('HINCRBY', task.key, 'message_waits', -1) <= 0 then redis.call('HDEL', task.key, 'message_waits') end
end

local function finish(task, status, err)
  end_attempt(task, err)
  free_slot(task)
  redis.call('ZREM', 'leases', task.id)
  redis.call('ZREM', 'due', task.id)
  redis.call('ZREM', 'deadlines', task.id)
  redis.call('HDEL', task.key, 'error', 'may_reclaim', 'slot_ms', 'queue', 'republished')
  redis.call('HSET', task.key, 'finished_at_ms', whole(now_ms))
  if err and status == 'failed' then redis.call('HSET', task.key, 'error', cjson.encode(err)) end
  local message_waits = WAITING[task.status] and status ~= 'failed' -- then it is a dead letter, and has gone its way
  if message_waits or task.message_returns then expect_copy(task) end
  -- kept until no copy of its message can still come, then for the retention
  local last_copy_ms = math.max(task.due_at_ms, task.copies_until_ms, now_ms)
  redis.call('ZADD', 'expiring', whole(last_copy_ms + details.retention_ms), task.id)
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
  task.message_returns = true
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

-- The attempt that runs next: that of a lost worker comes again.
local function awaited(task) return task.may_reclaim and task.attempt or task.attempt + 1 end
