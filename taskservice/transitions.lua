-- Every transition of a task's record, each atomic. The one place where status changes.
-- KEYS[1] the record (hash)   ARGV[1] the action   ARGV[2] its details (JSON)   ARGV[3] retention of final records, seconds
-- Redis' own clock times all events, so that machines with skewed clocks agree. Answers with one word.

local record, action, details = KEYS[1], ARGV[1], cjson.decode(ARGV[2])
local retention_s = tonumber(ARGV[3])
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local status = redis.call('HGET', record, 'status')

local function is_final()
  return status == 'succeeded' or status == 'failed'
end

local function current_attempt()
  return tonumber(redis.call('HGET', record, 'attempt') or '0')
end

local function create()
  redis.call('HSET', record, 'submission', details.submission, 'status', details.initial_status,
    'due_at_ms', string.format('%d', details.due_at_ms), 'attempt', 0)
end

local function attempts()
  return cjson.decode(redis.call('HGET', record, 'attempts') or '[]')
end

local function finish_attempt(err)
  local list = attempts()
  local last = list[#list]
  if last then
    last.finished_at_ms = now_ms
    last.error = err
    redis.call('HSET', record, 'attempts', cjson.encode(list))
  end
end

local function finish(final, err)
  finish_attempt(err)
  redis.call('HSET', record, 'status', final, 'finished_at_ms', string.format('%d', now_ms))
  if err then redis.call('HSET', record, 'error', cjson.encode(err)) else redis.call('HDEL', record, 'error') end
  -- kept until no copy of its message can still be in the broker, then for the retention
  local due_ms = tonumber(redis.call('HGET', record, 'due_at_ms') or now_ms)
  redis.call('PEXPIRE', record, string.format('%d', math.max(0, due_ms - now_ms) + retention_s * 1000))
  return final
end

local actions = {}

function actions.accept()
  if status then return 'kept' end
  create()
  return 'accepted'
end

function actions.refuse()
  if status and status ~= 'refused' then return 'claimed' end
  redis.call('HSET', record, 'status', 'refused')
  redis.call('EXPIRE', record, 31 * 86400)  -- outlives the longest delay a late copy can have
  return 'refused'
end

function actions.claim()
  if not status then create() elseif status == 'refused' or is_final() then return 'stale' end
  local known = current_attempt()
  local is_next = details.attempt == known + 1
  local runs = details.attempt == known and status == 'running'
  if runs and redis.call('HGET', record, 'delivery') == details.delivery then
    return 'granted'  -- asked again because the first answer was lost
  end
  -- a copy that the broker has not delivered before is a second publish of a message that another worker runs
  local is_redelivered = runs and details.redelivered
  if not (is_next or is_redelivered) then return 'stale' end
  if is_next then redis.call('HDEL', record, 'lost_deliveries', 'handed_back') end
  if is_redelivered then
    local was_handed_back = redis.call('HDEL', record, 'handed_back') == 1
    if was_handed_back then
      finish_attempt({code = 'worker_lost', message = 'the worker stopped and handed this attempt back', retryable = true})
    else
      finish_attempt({code = 'worker_lost', message = 'the worker was lost while it ran this attempt', retryable = true})
    end
    if not was_handed_back and redis.call('HINCRBY', record, 'lost_deliveries', 1) >= details.max_deliveries then
      finish('failed', {code = 'worker_lost', message = 'its worker was lost ' .. details.max_deliveries .. ' times while it ran', retryable = true})
      return 'lost_too_often'
    end
  end
  local list = attempts()
  list[#list + 1] = {number = details.attempt, worker = details.worker, started_at_ms = now_ms}
  redis.call('HDEL', record, 'progress')
  redis.call('HSET', record, 'status', 'running', 'attempt', details.attempt, 'attempts', cjson.encode(list),
    'delivery', details.delivery)
  return 'granted'
end

local function is_running()
  return status == 'running' and details.attempt == current_attempt()
end

function actions.hand_back()
  if not is_running() then return 'ignored' end
  redis.call('HSET', record, 'handed_back', 1)
  return 'handed_back'
end

function actions.succeed()
  if not is_running() then return 'ignored' end
  redis.call('HSET', record, 'result', details.result)
  return finish('succeeded')
end

function actions.fail()
  if not status or status == 'refused' or is_final() or details.attempt < current_attempt() then return 'ignored' end
  return finish('failed', details.error)
end

function actions.retry()
  if not is_running() then return 'ignored' end
  finish_attempt(details.error)
  redis.call('HSET', record, 'status', 'retrying', 'error', cjson.encode(details.error),
    'due_at_ms', string.format('%d', now_ms + details.delay_ms))
  return 'retrying'
end

function actions.progress()
  if not is_running() then return 'ignored' end
  redis.call('HSET', record, 'progress', cjson.encode(details.progress))
  return 'noted'
end

return actions[action]()
