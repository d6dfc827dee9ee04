#!lua flags=allow-oom
-- Makes, renews, settles and reads the clock of one cache, and registers the schema of the caller.
--
-- KEYS  1 clock
-- ARGV  1 'register' | 'renew' | 'recover' | 'renumber' | 'settle'. renew is for a clock that the caller has proven, of this history. recover also
--         makes a clock; renumber is recover, and begins the list of schemas anew. All three are nothing if another node has cleared the cache since
--       2 schema: 16 hex digits
--       3 renew, recover, renumber: the new epoch, which says how the cache was followed before; settle: the epoch that was cleared
--       4 renew, recover, renumber: the epoch that was found before; settle: the history of the server that the clock now belongs to
--       5 the names of the caller's indexes; empty: the caller has no schema, and registers nothing
--       6 the key for these names (index_names.rs), without the schema at its end; not among KEYS, so that a user who may not use it may still
--         use the clock
--       7 renew, recover, renumber: the history of the server; 0 if it is not known. settle: the epoch from now on, another one if the cache is to be followed
--         in another way
-- Reply {epoch, sequence, state, history, registered}; all 0 if there is no clock, and for renew if it is of another history
-- Cost  four to eight commands, renumber up to 24; run at connect, at truncate and after a loss, never per lookup
--
-- The clock is one string, so that the server cannot lose a part of it:
--   words of 8 bytes: 0 epoch, 1 sequence, 2 state (1 settled, 2 clearing, 3 lost: the list of schemas may be incomplete), 3 the
--   connection that wrote last, 4 since which sequence (write_marks.lua), 5 history,
--   bytes 48..303 up to 16 schemas, bytes 512..131583 the log of what was touched (write_marks.lua), and from there on the followers (follow.lua).
-- An epoch of 2^51 or more says that nodes follow the cache, and how (contract/following.rs).
local clock, action, schema = KEYS[1], ARGV[1], ARGV[2]
local head = redis.call('BITFIELD', clock, 'GET', 'i64', '#0', 'GET', 'i64', '#2', 'GET', 'i64', '#5')
local history = ARGV[7]

-- The clock is settled under another epoch than the one that was found: another node has removed everything since. The clock is only read. A truncate finds
-- out how the cache is followed now.
if (action == 'renew' or action == 'recover' or action == 'renumber') and head[2] == 1 and head[1] ~= tonumber(ARGV[4]) then
  action = 'register'
end

-- The server has lost the clock since it was proven, or has other data. Nodes that keep the cache in their own memory may be missing in the table of followers
-- then, so only a recovery may go on, which waits for them (single/clearing.rs).
if action == 'renew' and (head[1] == 0 or history ~= '0' and head[3] ~= tonumber(history)) then -- protection: settle-wait
  return {0, 0, 0, 0, 0} -- protection: settle-wait
end -- protection: settle-wait

if action == 'renumber' and head[1] ~= 0 then
  -- State 3, lost: until everything is removed there are objects of releases that are not listed.
  local listed = redis.call('GETRANGE', clock, 48, 303)
  for at = 1, 241, 16 do
    local other = string.sub(listed, at, at + 15)
    if #other < 16 or string.byte(other) == 0 then break end
    redis.pcall('UNLINK', ARGV[6] .. other)
  end
  redis.call('SETRANGE', clock, 48, string.rep('\0', 256))
  redis.call('BITFIELD', clock, 'SET', 'i64', '#0', ARGV[3], 'SET', 'i64', '#2', 3, 'SET', 'i64', '#5', history)
elseif action == 'renew' or action == 'recover' or action == 'renumber' then
  if head[1] == 0 then
    redis.call('SETRANGE', clock, 131583, '\0')
    redis.call('BITFIELD', clock, 'SET', 'i64', '#0', ARGV[3], 'SET', 'i64', '#2', 3, 'SET', 'i64', '#5', history)
  elseif head[2] == 1 then
    redis.call('BITFIELD', clock, 'SET', 'i64', '#0', ARGV[3], 'SET', 'i64', '#2', 2, 'SET', 'i64', '#5', history)
  elseif history ~= '0' and head[3] ~= tonumber(history) then
    -- It was being cleared when the data was copied that has come back with a restart or a failover. Who began that clearing may have removed
    -- things before it, and must not end this one.
    redis.call('BITFIELD', clock, 'SET', 'i64', '#0', ARGV[3], 'SET', 'i64', '#5', history)
  end
  -- Otherwise a clock that is being cleared already keeps its epoch: the node that ends first has removed everything older.
elseif head[1] == 0 then
  return {0, 0, 0, 0, 0}
elseif action == 'settle' and head[1] == tonumber(ARGV[3]) and head[2] ~= 1 then
  -- A slot that is on its way to another node of a cluster: the removal has not seen what had left already, and that comes back if the move is
  -- given up. A key that does not exist is an error on such a node.
  local nothing = redis.pcall('GETRANGE', clock .. '?', 0, 0)
  if type(nothing) == 'table' and nothing.err and string.find(nothing.err, 'non local key', 1, true) then return nothing end
  redis.call('BITFIELD', clock, 'SET', 'i64', '#0', ARGV[7], 'SET', 'i64', '#2', 1, 'SET', 'i64', '#5', ARGV[4])
  -- Those who follow the cache must drop everything (write_marks.lua).
  if head[1] >= 2251799813685248 or tonumber(ARGV[7]) >= 2251799813685248 then redis.pcall('SPUBLISH', clock, '') end
end

local registered = 0
local schemas = redis.call('GETRANGE', clock, 48, 303)
for at = 1, 241, 16 do
  local other = string.sub(schemas, at, at + 15)
  if other == schema then
    registered = 1
    break
  elseif string.byte(other) == 0 then
    redis.call('SETRANGE', clock, 47 + at, schema)
    registered = 1
    break
  end
end
-- The names are for people only, so an error must not keep the cache from being used.
if registered == 1 and ARGV[5] ~= '' then redis.pcall('SET', ARGV[6] .. schema, ARGV[5]) end

head = redis.call('BITFIELD', clock, 'GET', 'i64', '#0', 'GET', 'i64', '#1', 'GET', 'i64', '#2', 'GET', 'i64', '#5')
head[5] = registered
return head
