#!lua flags=allow-oom
-- Makes just these keys miss: flags them as deleted in the objects that list them, and fences them. Ends with log.lua.
--
-- KEYS  1 clock  2.. for each key: its index key, or the clock where the key is a primary key
-- ARGV  1 prefix of object keys, to which schema:primary is added
--       2 marks of the keys, 8 bytes each
--       3.. for each key, as objects list it: 0 = primary or 1 = secondary (1 byte), and the key, a secondary one after its index
--       and a colon
-- Reply 1 byte: 1 done, 4 the clock is lost; epoch and sequence, 8 bytes each
-- Cost  one EVALSHA, GETRANGE, log.lua, and per key and schema one or two reads and one write of the object's header, whatever the
--       size of its payload
local clock, touched = KEYS[1], ARGV[2]
local head = redis.call('GETRANGE', clock, 0, 287)
if #head < 288 or string.byte(head, 24) == 3 then return struct.pack('>BI4I4I4I4', 4, 0, 0, 0, 0) end
local outcome, eh, el, sh, sl = 1, struct.unpack('>I4I4I4I4', head)
local sequence = sh * 4294967296 + sl

-- Flags one key of one object; an object without any key left is removed.
local function flag(name, position, key)
  local head = redis.pcall('GETRANGE', name, 36, 41)
  if type(head) ~= 'string' then return end
  -- Nothing, or that the source has nothing.
  if #head < 6 then
    redis.call('UNLINK', name)
    return
  end
  local length, count = struct.unpack('>I4I2', head)
  local body = redis.call('GETRANGE', name, 42, 41 + count + length)
  if #body < count + length then return end
  local at, left = count + 1, 0
  for i = 1, count do
    if at + 5 > #body + 1 then return end
    local index, size = struct.unpack('>BI4', body, at)
    if index == position and string.sub(body, at + 5, at + 4 + size) == key then
      redis.call('SETRANGE', name, 41 + i, '\1')
    elseif string.byte(body, i) == 0 then
      left = left + 1
    end
    at = at + 5 + size
  end
  if left == 0 then redis.call('UNLINK', name) end
end

for i = 2, #KEYS do
  local position, key = string.byte(ARGV[1 + i]), string.sub(ARGV[1 + i], 2)
  local primary = key
  if KEYS[i] ~= clock then
    local hint = redis.pcall('GET', KEYS[i])
    primary = type(hint) == 'string' and #hint > 12 and string.sub(hint, 13)
    if hint and not primary then redis.call('UNLINK', KEYS[i]) end
  end
  if primary then
    for at = 33, 273, 16 do
      if string.byte(head, at) == 0 then break end
      flag(ARGV[1] .. string.sub(head, at, at + 15) .. ':' .. primary, position, key)
    end
  end
end
