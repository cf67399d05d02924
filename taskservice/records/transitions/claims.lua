-- Which delivered message may start an attempt, and when.

-- When the type's next start may be, in ms; reserves that slot (GCRA, kept as the theoretical arrival time).
local function reserve_slot(task)
  if task.slot_ms > 0 then return task.slot_ms end
  local free = 'free_slots:' .. task.type
  redis.call('ZREMRANGEBYSCORE', free, '-inf', whole(now_ms)) -- nobody can start in the past
  local first = redis.call('ZPOPMIN', free)
  if first[2] then return tonumber(first[2]) end
  local key = 'rate:' .. task.type
  local interval_ms = details.rate.period_ms / details.rate.count
  local arrival_ms = math.max(tonumber(redis.call('GET', key) or 0), now_ms)
  local slot_ms = math.max(now_ms, math.ceil(arrival_ms - (details.rate.count - 1) * interval_ms))
  redis.call('SET', key, string.format('%.3f', arrival_ms + interval_ms),
    'PX', whole(math.ceil(arrival_ms + interval_ms - now_ms + details.rate.period_ms)))
  return slot_ms
end

local function grant(task)
  if details.attempt > task.attempt then redis.call('HDEL', task.key, 'lost_deliveries') end
  if details.attempt == 1 and task.attempt == 0 then measure(task, 'wait', now_ms - details.creation.due_at_ms) end
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
  move(task, task.status == 'scheduled' and 'queued' or task.status)
  return {'wait', slot_ms - now_ms}
end

-- One copy of the message of a task that lost its workers becomes a dead letter.
local function claim_ended(task)
  if redis.call('HDEL', task.key, 'is_dead_letter') == 1 then
    redis.call('HSET', task.key, 'dead_letter_delivery', details.delivery)
  end
  local is_letter = redis.call('HGET', task.key, 'dead_letter_delivery') == details.delivery
  return {is_letter and 'dead_letter' or 'stale'}
end

local function claim_running(task)
  if task.delivery == details.delivery then return {'granted'} end -- the first answer was lost
  if details.attempt < task.attempt then return {'stale'} end
  -- another delivery runs: this one waits until that has ended or its lease has lapsed
  return {'wait', math.max(1000, tonumber(redis.call('ZSCORE', 'leases', task.id) or 0) - now_ms)}
end

-- For a message or a report of a task that Redis has lost: the attempts before this one have been.
local function create_again(id)
  local task = create(id)
  task.attempt = details.attempt - 1
  redis.call('HSET', task.key, 'attempt', task.attempt)
  return task
end

function actions.claim(task)
  if not task.status then task = create_again(task.id) end
  if task.status == 'refused' then return {'stale'} end
  if task.status == 'cancelled' or task.status == 'expired' then return {'revoked'} end
  if FINAL[task.status] then return claim_ended(task) end
  if task.status == 'running' then return claim_running(task) end
  -- a later attempt's message is proof that the one before has ended, though Redis alone has forgotten it
  if details.attempt < awaited(task) then return {'stale'} end
  if details.attempt == 1 and task.attempt == 0 and task.expires_at_ms and now_ms > task.expires_at_ms then
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
