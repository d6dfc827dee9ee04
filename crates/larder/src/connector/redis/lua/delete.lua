#!lua flags=allow-oom
-- Makes just these keys miss: flags them as deleted in the objects that list them, and fences them. Ends with write_marks.lua.
--
-- KEYS  1 clock  2.. for each key: its index key, or the clock if the key is a primary key
-- ARGV  1 prefix of object keys, to which schema:primary is added
--       2 marks of the keys, 8 bytes each
--       3.. for each key, as objects list it: 0 = primary or 1 = secondary (1 byte), and the key, a secondary one after its index
--       and a colon
-- Reply 1 byte: 1 done, 4 the clock is lost; epoch and sequence, 8 bytes each
-- Cost  one EVALSHA, GETRANGE, write_marks.lua; for each secondary key one GET; for each object and schema one or two reads, whatever the
--       size of its payload; for each key one write
local clock, touched = KEYS[1], ARGV[2]
local head = redis.call('GETRANGE', clock, '0', '303')
if #head < 304 or string.byte(head, 24) == 3 then return '\4' .. string.rep('\0', 16) end
local outcome, writer = 1, '\0\0\0\0\0\0\0\0'

-- Flags those keys of one object that are among the items, which are keys as objects list them. Removes the object if no key is left.
local function flag(name, items)
  local head = redis.pcall('GETRANGE', name, '36', '41')
  if type(head) ~= 'string' then
    -- An object that the user may not read may list the key: so the script must fail.
    if string.sub(head.err, 1, 9) ~= 'WRONGTYPE' then error(head) end
    return
  end
  -- No object, or a note that the source has nothing.
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
    local size = struct.unpack('>I4', body, at + 1)
    if items[string.sub(body, at, at + 4 + size)] then
      redis.call('SETRANGE', name, 41 + i, '\1')
    elseif string.byte(body, i) == 0 then
      left = left + 1
    end
    at = at + 5 + size
  end
  if left == 0 then redis.call('UNLINK', name) end
end

-- Each object is read once, however many of its keys are to be flagged.
local names, wanted = {}, {}
for i = 2, #KEYS do
  local position, key = string.byte(ARGV[1 + i]), string.sub(ARGV[1 + i], 2)
  local primary = key
  if KEYS[i] ~= clock then
    local hint = redis.pcall('GET', KEYS[i])
    primary = type(hint) == 'string' and #hint > 12 and string.sub(hint, 13)
    if type(hint) == 'table' and string.sub(hint.err, 1, 9) ~= 'WRONGTYPE' then error(hint) end
    if hint and not primary then redis.call('UNLINK', KEYS[i]) end
  end
  if primary then
    local item = struct.pack('>BI4', position, #key) .. key
    for at = 49, 289, 16 do
      if string.byte(head, at) == 0 then break end
      local name = ARGV[1] .. string.sub(head, at, at + 15) .. ':' .. primary
      if not wanted[name] then
        names[#names + 1], wanted[name] = name, {}
      end
      wanted[name][item] = true
    end
  end
end
for _, name in ipairs(names) do flag(name, wanted[name]) end
