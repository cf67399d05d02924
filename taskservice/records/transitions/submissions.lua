-- What the web asks for: accept a task, refuse it, cancel it, run it now.

function actions.accept(task)
  if task.status and task.status ~= 'refused' then return 'kept' end
  create(task.id)
  return 'accepted'
end

function actions.refuse(task)
  if task.status and task.status ~= 'refused' then return 'claimed' end
  refuse_copies(task)
  return 'refused'
end

function actions.lift(task)
  if task.status == 'refused' then redis.call('DEL', task.key) end
  return 'lifted'
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
  if not may or details.attempt ~= awaited(task) then return 'ignored' end
  local copies_until_ms = math.max(task.due_at_ms, task.copies_until_ms) -- the delayed message comes all the same
  redis.call('HSET', task.key, 'due_at_ms', whole(now_ms), 'copies_until_ms', whole(copies_until_ms))
  expect_copy(task)
  redis.call('ZREM', 'due', task.id)
  if task.status == 'scheduled' then
    move(task, 'queued')
  else
    redis.call('ZADD', waiting(task), 'LT', whole(now_ms), task.id) -- an earlier copy may be in the queue already
    touch(task)
  end
  return 'hastened'
end
