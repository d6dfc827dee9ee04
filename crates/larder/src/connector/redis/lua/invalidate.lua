#!lua flags=allow-oom
-- Forgets every object that the keys lead to, and fences the keys and those objects' primary keys.
--
-- KEYS  1 clock  2.. for each key: its index key, or the clock where the key is a primary key
-- ARGV  1 prefix of object keys, to which schema:primary is added
--       2 prefix of floor keys, to which the primary key is added  3 floor, 8 bytes big-endian, or empty
--       4 lifetime of the floor in ms
--       5.. for each key: its fence slot, then the primary key, or nothing where KEYS holds an index key
-- Reply {1, sequence, epoch}, or {4, 0, 0} where the clock is lost
-- Cost  one EVALSHA, GETRANGE and BITFIELD, and per key one UNLINK and, for a secondary key, one GET
local clock = KEYS[1]
local head = redis.call('GETRANGE', clock, 0, 287)
if #head < 288 or string.byte(head, 24) == 3 then return {4, 0, 0} end

local schemas = {}
for at = 33, 273, 16 do
  if string.byte(head, at) == 0 then break end
  schemas[#schemas + 1] = string.sub(head, at, at + 15)
end

local eh, el, sh, sl = struct.unpack('>I4I4I4I4', head)
local sequence = sh * 4294967296 + sl + 1
local fences = {'BITFIELD', clock, 'SET', 'i64', '#1', sequence}
local function fence(slot)
  local n = #fences
  fences[n + 1], fences[n + 2], fences[n + 3], fences[n + 4] = 'SET', 'i64', slot, sequence
end

for i = 2, #KEYS do
  local slot, primary = ARGV[2 * i + 1], ARGV[2 * i + 2]
  fence(slot)
  if KEYS[i] ~= clock then
    local hint = redis.pcall('GET', KEYS[i])
    primary = nil
    if type(hint) == 'string' and #hint > 10 then
      primary = string.sub(hint, 11)
      fence('#' .. (64 + struct.unpack('>I2', hint)))
    end
  end
  if primary then
    local objects = {}
    for n, schema in ipairs(schemas) do objects[n] = ARGV[1] .. schema .. ':' .. primary end
    if #objects > 0 then redis.call('UNLINK', unpack(objects)) end
    if ARGV[3] ~= '' then
      local name = ARGV[2] .. primary
      local old = redis.pcall('GET', name)
      -- A floor only rises while it lives. Strings of one length; compared as two halves, since 2^53 is not enough.
      local keep = false
      if type(old) == 'string' and #old == 8 then
        local oh, ol = struct.unpack('>I4I4', old)
        local nh, nl = struct.unpack('>I4I4', ARGV[3])
        keep = oh > nh or (oh == nh and ol > nl)
      end
      redis.call('SET', name, keep and old or ARGV[3], 'PX', ARGV[4])
    end
  end
end
redis.call(unpack(fences))
return {1, sequence, eh * 4294967296 + el}
