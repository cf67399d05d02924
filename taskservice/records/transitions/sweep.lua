-- What time has moved, and what waits to be told.

function actions.sweep()
  local done = {0, 0, 0}
  for task in passed('due') do
    if task.status == 'scheduled' then move(task, 'queued') end
    done[1] = done[1] + 1
  end
  for task in passed('deadlines') do
    if WAITING[task.status] and task.attempt == 0 then finish(task, 'expired') end
    done[2] = done[2] + 1
  end
  if details.may_judge_leases then
    for task in passed('leases') do
      if task.status == 'running' then give_up_attempt(task, true) end
      done[3] = done[3] + 1
    end
  end
  return done
end

-- Takes some of the outbox; what is not removed by then comes back after a while.
function actions.take_outbox()
  local taken = redis.call('ZRANGEBYSCORE', 'outbox', '-inf', whole(now_ms), 'LIMIT', 0, 100)
  for _, one in ipairs(taken) do redis.call('ZADD', 'outbox', whole(now_ms + details.hold_ms), one) end
  return taken
end
