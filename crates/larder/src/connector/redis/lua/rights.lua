-- Says which commands the user may not run on keys under our prefix. Runs none of them.
--
-- KEYS  none
-- ARGV  1 and 2 names under our prefix that no cache has
-- Reply the names of the commands that are refused; '?' alone where that cannot be told
-- Cost  one EVAL; at connect, and while a right is missing
local key, other, refused = ARGV[1], ARGV[2], {}
-- Whether all of them are refused because of the key cannot be told from here.
if not (redis.acl_check_cmd and redis.acl_check_cmd('GET', key)) then return { '?' } end

-- Each with as many arguments as it takes: some servers look for the keys among them without counting first.
local function try(...)
  -- A command that the server does not know is an error, and nothing that the user may not do.
  local known, allowed = pcall(redis.acl_check_cmd, ...)
  if known and not allowed then refused[#refused + 1] = (...) end
end
try('MGET', key, other)
try('GETRANGE', key, '0', '1')
try('SET', key, 'x', 'PX', '1')
try('SETRANGE', key, '0', 'x')
try('BITFIELD', key, 'SET', 'i64', '#0', '1')
try('UNLINK', key)
try('EXISTS', key)
try('RENAME', key, other)
try('PERSIST', key)
try('PEXPIRE', key, '1')
try('TIME')
try('SCAN', '0', 'MATCH', key)
return refused
