-- Says which commands the user may not run on keys under larder's prefix, and which the server does not know. Runs none of them.
--
-- KEYS  none
-- ARGV  1 and 2 names under larder's prefix that no cache has
-- Reply the names of the commands that are refused, and after '!' those that are not known; '?' alone if that cannot be found out
-- Cost  one EVAL; at connect, and while a right is missing
local key, other, refused = ARGV[1], ARGV[2], {}
-- An old server has no such check. If even GET is refused, the reason may be the key, and nothing can be said about the commands.
if not (redis.acl_check_cmd and redis.acl_check_cmd('GET', key)) then return { '?' } end

-- Each command has all of its arguments: some servers look for the keys among them without counting first.
local function try(...)
  -- A command that is disabled or renamed raises an error.
  local known, allowed = pcall(redis.acl_check_cmd, ...)
  if not known then refused[#refused + 1] = '!' .. (...)
  elseif not allowed then refused[#refused + 1] = (...) end
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
