-- What the web asks for: accept a task, refuse it, cancel it, run it now.

local REFUSED_S = 31 * 86400 -- a tombstone outlives the longest delay a late copy can have

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
  redis.call('HSET', task.key, 'due_at_ms', whole(now_ms))
  redis.call('ZREM', 'due', task.id)
  move(task, task.status == 'scheduled' and 'queued' or task.status)
  return 'hastened'
end
