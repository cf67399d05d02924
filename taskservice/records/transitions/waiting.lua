-- Whose message the broker has lost, and is published again.

-- Takes some that were due in their queue before that moment; they are due in it anew, from now.
function actions.take_overdue()
  local ids = redis.call('ZRANGEBYSCORE', 'waiting:' .. details.queue, '-inf', whole(details.before_ms),
    'LIMIT', 0, details.at_once)
  local taken = {}
  for _, id in ipairs(ids) do
    local task = load_task(id)
    if IN_QUEUE[task.status] then
      redis.call('ZADD', 'waiting:' .. details.queue, whole(now_ms), id)
      redis.call('HSET', task.key, 'republished', 1)
      taken[#taken + 1] = {id, awaited(task)}
    else -- an older version of this script has ended it
      redis.call('ZREM', 'waiting:' .. details.queue, id)
    end
  end
  return taken
end

function actions.republished(task)
  if not task.status then return 'gone' end
  redis.call('HINCRBY', 'republished', task.type .. ':' .. task.priority, 1)
  if IN_QUEUE[task.status] then change_queue(task) end
  return 'counted'
end
