-- What a worker tells of the attempt it runs, and the reaper of a message that nobody could run.

-- Nil for the owner of a running attempt, else the answer it gets.
local function objection(task)
  if owns(task) then return nil end
  local is_forgotten = not task.status or (WAITING[task.status] and details.attempt >= awaited(task))
  return is_forgotten and 'forgotten' or 'ignored'
end

-- A report of an attempt whose start Redis has forgotten: that it comes is proof that the attempt was.
function actions.recall(task)
  if not task.status then task = create_again(task.id) end
  if WAITING[task.status] and details.attempt >= awaited(task) then grant(task) end
  return 'recalled'
end

function actions.give_up(task)
  if not owns(task) or task.status ~= 'running' then return 'ignored' end
  return give_up_attempt(task, details.is_lost)
end

function actions.succeed(task)
  local answer = objection(task)
  if answer then return answer end
  redis.call('HSET', task.key, 'result', details.result)
  note_run_time(task)
  return finish(task, 'succeeded')
end

function actions.fail(task)
  local answer = objection(task)
  if answer then return answer end
  task.message_returns = details.message_returns
  return finish(task, 'failed', details.error)
end

function actions.retry(task)
  local answer = objection(task)
  if answer then return answer end
  if task.cancel_requested_at_ms then
    task.message_returns = true -- the next attempt's has been published
    return finish(task, 'cancelled', details.error)
  end
  redis.call('HDEL', task.key, 'may_reclaim')
  return hold(task, details.error, now_ms + details.delay_ms)
end

function actions.stop(task) -- what a client has cancelled, or an operator in Flower
  if not task.status or FINAL[task.status] or task.status == 'refused' then return 'ignored' end
  if task.status == 'running' and not owns(task) then return 'ignored' end
  task.message_returns = details.message_returns
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

local function failed_with(task)
  local err = task.status == 'failed' and redis.call('HGET', task.key, 'error')
  return err and cjson.decode(err).code or ''
end

-- The message is one that the task does not wait for: of an attempt before the one that runs or comes next.
local function is_outdated(task)
  local current = task.status == 'running' and task.attempt or awaited(task)
  return details.attempt and details.attempt < current
end

-- The broker gave up on its message: nothing will run it any more. Answers the code that the task has failed with.
function actions.bury(task)
  if not task.status then
    if not details.creation then return '' end
    task = create(task.id)
  end
  if task.status == 'refused' or FINAL[task.status] or is_outdated(task) then return failed_with(task) end
  if task.status == 'running' then -- then this was one copy too many, or the last: its lease decides
    redis.call('HSET', task.key, 'orphaned', 1)
  else
    finish(task, 'failed', details.error)
  end
  return failed_with(task)
end

-- A lease had lapsed while the store was away, and its worker is there all the same.
local function undo_loss(task)
  redis.call('HDEL', task.key, 'may_reclaim', 'error')
  local lost = tonumber(redis.call('HGET', task.key, 'lost_deliveries') or 0)
  if lost > 0 then redis.call('HSET', task.key, 'lost_deliveries', lost - 1) end
  local list = cjson.decode(redis.call('HGET', task.key, 'attempts') or '[]')
  if #list > 0 then list[#list].finished_at_ms, list[#list].error = nil, nil end
  redis.call('HSET', task.key, 'attempts', cjson.encode(list))
  move(task, 'running')
end

-- The worker's main process: these deliveries still run here. Answers one state for each.
function actions.renew()
  local answers = {}
  for index, run in ipairs(details.runs) do
    local task = load_task(run.task_id)
    details.delivery = run.delivery
    if owns(task) then
      if task.status == 'retrying' then undo_loss(task) end
      redis.call('ZADD', 'leases', whole(now_ms + details.lease_ms), task.id)
      local since_ms = task.cancel_requested_at_ms
      local is_settling = redis.call('HEXISTS', task.key, 'is_settling')
      answers[index] = {'runs', since_ms and now_ms - since_ms or -1, is_settling}
    else
      local is_forgotten = not task.status or (WAITING[task.status] and run.attempt >= awaited(task))
      answers[index] = {is_forgotten and 'forgotten' or 'ended', -1, 0}
    end
  end
  return answers
end
