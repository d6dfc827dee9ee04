#!lua flags=allow-oom
-- Forgets every object that the keys lead to, and fences the keys and those objects' primary keys. Ends with log.lua.
--
-- KEYS  1 clock  2.. for each key: its index key, or the clock where the key is a primary key
-- ARGV  1 prefix of object keys, to which schema:primary is added
--       2 marks of the keys, 8 bytes each
--       3 prefix of floor keys, to which the primary key is added  4 floor, 8 bytes big-endian, or empty
--       5 lifetime of the floor in ms
--       6.. for each key: the primary key, or nothing where KEYS holds an index key
-- Reply {1, sequence, epoch}, or {4, 0, 0} where the clock is lost
-- Cost  one EVALSHA, GETRANGE, log.lua, and per key one UNLINK and, for a secondary key, one GET
local clock, touched, floor = KEYS[1], ARGV[2], ARGV[4]
local head = redis.call('GETRANGE', clock, 0, 287)
if #head < 288 or string.byte(head, 24) == 3 then return {4, 0, 0} end
local outcome, eh, el, sh, sl = 1, struct.unpack('>I4I4I4I4', head)
local epoch, sequence = eh * 4294967296 + el, sh * 4294967296 + sl

for i = 2, #KEYS do
  local primary = ARGV[4 + i]
  if KEYS[i] ~= clock then
    local hint = redis.pcall('GET', KEYS[i])
    primary = nil
    if type(hint) == 'string' and #hint > 12 then
      primary = string.sub(hint, 13)
      touched = touched .. string.sub(hint, 1, 8)
    end
  end
  if primary then
    for at = 33, 273, 16 do
      if string.byte(head, at) == 0 then break end
      redis.call('UNLINK', ARGV[1] .. string.sub(head, at, at + 15) .. ':' .. primary)
    end
    if floor ~= '' then
      local name = ARGV[3] .. primary
      local old = redis.pcall('GET', name)
      -- A floor only rises while it lives. Strings of one length; compared as two halves, since 2^53 is not enough.
      local keep = false
      if type(old) == 'string' and #old == 8 then
        local oh, ol = struct.unpack('>I4I4', old)
        local nh, nl = struct.unpack('>I4I4', floor)
        keep = oh > nh or (oh == nh and ol > nl)
      end
      redis.call('SET', name, keep and old or floor, 'PX', ARGV[5])
    end
  end
end
