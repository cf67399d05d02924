-- The end of the retention. A script of its own, because it is to run on a full Redis too: it only frees.

local function forget(task)
  if not task.status then return end
  for _, key in ipairs(cells(task, task.status)) do redis.call('ZREM', key, task.id) end
  count_in_batch(task, task.status, -1)
  for _, made in ipairs(redis.call('SMEMBERS', 'made_files:' .. task.id)) do
    redis.call('ZADD', 'unneeded_files', whole(now_ms), made)
  end
  local message_waits = redis.call('HEXISTS', task.key, 'message_waits') == 1 -- in a queue that was paused, or had no workers
  redis.call('DEL', task.key, 'deliveries:' .. task.id, 'made_files:' .. task.id)
  if message_waits then refuse_copies(task) end
end

function actions.forget()
  local done = 0
  for task in passed('expiring') do
    if FINAL[task.status] then forget(task) end
    done = done + 1
  end
  redis.call('XTRIM', 'events', 'MINID', whole(now_ms - details.retention_ms))
  return {done}
end
