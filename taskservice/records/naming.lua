#!lua flags=no-writes
-- Ids of a cell's tasks, of ranks from ARGV[2] to ARGV[3], whose submission holds the text ARGV[1].
-- KEYS[1]: the cell. Reads only.
local found = {}
for _, task_id in ipairs(redis.call("ZRANGE", KEYS[1], ARGV[2], ARGV[3])) do
  local submission = redis.call("HGET", "task:" .. task_id, "submission")
  if submission and string.find(submission, ARGV[1], 1, true) then
    found[#found + 1] = task_id
  end
end
return found
