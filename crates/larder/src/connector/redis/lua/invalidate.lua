#!lua flags=allow-oom
-- Forgets every object that the keys lead to, and fences the keys and those objects' primary keys. Ends with write_marks.lua.
--
-- KEYS  1 clock  2.. for each key: its index key, or the clock if the key is a primary key
-- ARGV  1 prefix of object keys, to which schema:primary is added
--       2 marks of the keys, 8 bytes each
--       3.. the primary keys among them, in their order. If a lowest version is demanded, three more: the versions in one string, 8
--       bytes big-endian for each key, 0 for none; the prefix of floor keys, to which the primary key is added; the lifetime of a
--       floor in ms
-- Reply 1 byte: 1 done, 4 the clock is lost; epoch and sequence, 8 bytes each
-- Cost  one EVALSHA, GETRANGE, write_marks.lua, and per key one UNLINK and, for a secondary key, one GET
local clock, touched, asked = KEYS[1], ARGV[2], 3
local call, sub = redis.call, string.sub
local outcome, writer, head = 1, '\0\0\0\0\0\0\0\0', call('GETRANGE', clock, '0', '64')
if #head < 65 or string.byte(head, 24) == 3 then return '\4' .. string.rep('\0', 16) end
-- The releases are listed from byte 48 on, 16 bytes each. Usually there is only one.
if string.byte(head, 65) ~= 0 then head = call('GETRANGE', clock, '0', '303') end

local primaries = 0
for i = 2, #KEYS do
  if KEYS[i] == clock then primaries = primaries + 1 end
end
local floors = ARGV[3 + primaries]

for i = 2, #KEYS do
  local primary
  if KEYS[i] == clock then
    primary = ARGV[asked]
    asked = asked + 1
  else
    local hint = redis.pcall('GET', KEYS[i])
    if type(hint) == 'string' and #hint > 12 then
      primary = sub(hint, 13)
      touched = touched .. sub(hint, 5, 12)
    elseif hint then
      -- An index key that the user may not read may lead to an object: so the script must fail.
      if type(hint) == 'table' and sub(hint.err, 1, 9) ~= 'WRONGTYPE' then error(hint) end
      -- A note that the source has nothing, or a value of another type.
      call('UNLINK', KEYS[i])
    end
  end
  if primary then
    for at = 49, #head - 15, 16 do
      if string.byte(head, at) == 0 then break end
      call('UNLINK', ARGV[1] .. sub(head, at, at + 15) .. ':' .. primary)
    end
    local floor = floors and sub(floors, 8 * i - 15, 8 * i - 8)
    if floor and floor ~= '\0\0\0\0\0\0\0\0' then
      local name = ARGV[4 + primaries] .. primary
      local old = redis.pcall('GET', name)
      -- A floor never falls while it lives. Compared in two halves, because a number is exact only up to 2^53.
      local keep = false
      if type(old) == 'string' and #old == 8 then
        local oh, ol = struct.unpack('>I4I4', old)
        local nh, nl = struct.unpack('>I4I4', floor)
        keep = oh > nh or (oh == nh and ol > nl)
      elseif type(old) == 'table' and sub(old.err, 1, 9) ~= 'WRONGTYPE' then
        error(old)
      end
      call('SET', name, keep and old or floor, 'PX', ARGV[5 + primaries])
    end
  end
end
