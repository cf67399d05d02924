-- Which delivered message may start an attempt, and when.

local LATE_MS = 5000 -- more than a whole second of delay and the way through a queue that is not behind

-- The moment from which the type may start one more, so that no period ever has more than the rate's count.
local function opens_at_ms(task)
  local nth_last_ms = redis.call('LINDEX', 'starts:' .. task.type, details.rate.count - 1)
  if not nth_last_ms then return 0 end
  return math.min(tonumber(nth_last_ms), now_ms) + details.rate.period_ms -- later than now: the clock was put back
end

-- The line: who is put off gets its end as his slot, and the next one comes an interval later.
local function line_ends_ms(task) return tonumber(redis.call('GET', 'rate:' .. task.type) or 0) end

local function lengthen_line(task, from_ms)
  local next_ms = from_ms + details.rate.period_ms / details.rate.count
  redis.call('SET', 'rate:' .. task.type, string.format('%.3f', next_ms), 'PX', whole(math.ceil(next_ms - now_ms)))
end

-- A slot that somebody else gave back, or the end of the line.
local function reserve_slot(task)
  local free = 'free_slots:' .. task.type
  redis.call('ZREMRANGEBYSCORE', free, '-inf', whole(now_ms)) -- nobody can start in the past
  local first = redis.call('ZPOPMIN', free)
  if first[2] then return tonumber(first[2]) end
  local slot_ms = math.ceil(math.max(now_ms, opens_at_ms(task), line_ends_ms(task)))
  lengthen_line(task, slot_ms)
  return slot_ms
end

-- When it may start: now, or at a slot of its own. Nobody passes those in line. Who comes for his slot and finds no room,
-- because delays are whole seconds and some come together, is let in next. Who comes late, because his queue was paused or
-- had no workers, lines up again: else all of those would ask again each second.
local function start_ms(task)
  if task.slot_ms > now_ms then return task.slot_ms end
  local opens_ms, has_slot = opens_at_ms(task), task.slot_ms > 0
  local is_next = has_slot or line_ends_ms(task) == 0
  if is_next and opens_ms <= now_ms then return now_ms end
  if not has_slot or now_ms - task.slot_ms > LATE_MS then return reserve_slot(task) end
  return math.ceil(opens_ms)
end

local function note_start(task)
  local starts = 'starts:' .. task.type
  redis.call('LPUSH', starts, whole(now_ms))
  redis.call('LTRIM', starts, 0, details.rate.count - 1)
  redis.call('PEXPIRE', starts, whole(details.rate.period_ms))
end

-- Its queue is past everything that was due in it well before. Not when its message stood in front, because it had come
-- back, nor when it may be the earlier one of two.
local function overtake(task)
  local may_be_either = redis.call('HDEL', task.key, 'republished') == 1
  if may_be_either or task.may_reclaim then return end
  local due_ms = redis.call('ZSCORE', waiting(task), task.id)
  if due_ms then redis.call('ZADD', 'overtaken', 'GT', whole(math.min(tonumber(due_ms), now_ms)), task.queue) end
end

-- Its next message goes to the queue that its type has now, which may be another one than at its acceptance.
local function change_queue(task)
  if details.queue == task.queue then return end
  local due_ms = redis.call('ZSCORE', waiting(task), task.id)
  redis.call('ZREM', waiting(task), task.id)
  task.queue = details.queue
  redis.call('HSET', task.key, 'queue', task.queue)
  if due_ms then redis.call('ZADD', waiting(task), due_ms, task.id) end
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
  task.due_at_ms = slot_ms
  redis.call('HSET', task.key, 'slot_ms', whole(slot_ms), 'due_at_ms', whole(slot_ms))
  move(task, task.status == 'scheduled' and 'queued' or task.status)
  return {'wait', slot_ms - now_ms}
end

-- One copy of the message of a task that lost its workers becomes a dead letter.
local function claim_ended(task)
  meet_copy(task)
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
  local lapses_at_ms = redis.call('ZSCORE', 'leases', task.id)
  local latest_ms = now_ms + details.lease_ms
  if not lapses_at_ms or tonumber(lapses_at_ms) > latest_ms then -- nobody would ever judge it, or the clock was put back
    lapses_at_ms = latest_ms
    redis.call('ZADD', 'leases', whole(lapses_at_ms), task.id)
  end
  return {'wait', math.max(1000, tonumber(lapses_at_ms) - now_ms)}
end

-- For a message or a report of a task that Redis has lost: the attempts before this one have been.
local function create_again(id)
  local task = create(id)
  task.attempt = details.attempt - 1
  redis.call('HSET', task.key, 'attempt', task.attempt)
  return task
end

-- A submission that was refused and made again, with the same key, promises the second one's moment.
local function is_of_refused_try(task)
  return task.status == 'scheduled' and score_of(details.creation) ~= task.score
end

function actions.claim(task)
  if not task.status then task = create_again(task.id) end
  if task.status == 'refused' then return {'stale'} end
  if task.status == 'cancelled' or task.status == 'expired' then
    meet_copy(task)
    return {'revoked'}
  end
  if FINAL[task.status] then return claim_ended(task) end
  if task.status == 'running' then return claim_running(task) end
  if is_of_refused_try(task) then return {'stale'} end
  -- a later attempt's message is proof that the one before has ended, though Redis alone has forgotten it
  if details.attempt < awaited(task) then return {'stale'} end
  if details.attempt == 1 and task.attempt == 0 and task.expires_at_ms and now_ms > task.expires_at_ms then
    finish(task, 'expired')
    meet_copy(task)
    return {'revoked'}
  end
  overtake(task)
  change_queue(task)
  if redis.call('SISMEMBER', 'paused_queues', details.queue) == 1 then return {'paused'} end
  if details.rate then
    local slot_ms = start_ms(task)
    if slot_ms > now_ms then return put_off(task, slot_ms) end
    note_start(task)
  end
  return grant(task)
end
