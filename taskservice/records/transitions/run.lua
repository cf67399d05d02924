-- The last part of each script: do what was asked.

local action = actions[ARGV[1]]
if KEYS[1] then return action(load_task(string.sub(KEYS[1], 6))) end
return action()
