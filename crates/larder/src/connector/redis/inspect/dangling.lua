#!lua flags=allow-oom
-- Removes index keys that lead to no object which lists them, for somebody who knows names of indexes and not their positions.
--
-- A key that an object lists under another index counts as needed: that keeps an index key too many, and never removes one
-- by which an object would have to be found.
--
-- KEYS  1 clock  2.. index keys
-- ARGV  1 prefix of object keys, to which schema:primary is added  2 length of what stands before the key itself, the same for all
-- Reply the number of keys removed, or -1 where the clock is lost: then it is not known which objects there are
-- Cost  one EVALSHA, GETRANGE, and per key and schema one or two reads; one UNLINK per key removed
local removed = 0
local head, before = redis.call('GETRANGE', KEYS[1], 0, 287), tonumber(ARGV[2])
if #head < 288 or string.byte(head, 24) == 3 then return -1 end

local function lists(name, key)
  local start = redis.pcall('GETRANGE', name, 36, 41)
  if type(start) ~= 'string' or #start < 6 then return start ~= '' end
  local length, count = struct.unpack('>I4I2', start)
  local list = redis.call('GETRANGE', name, 42 + count, 41 + count + length)
  local at = 1
  for i = 1, count do
    -- Cut short: in doubt yes.
    if at + 4 > #list then return true end
    local position, size = struct.unpack('>BI4', list, at)
    if position > 0 and string.sub(list, at + 5, at + 4 + size) == key then return true end
    at = at + 5 + size
  end
  return false
end

for i = 2, #KEYS do
  local hint = redis.pcall('GET', KEYS[i])
  local needed = false
  if type(hint) == 'string' and #hint > 12 then
    local key = string.sub(KEYS[i], before + 1)
    for at = 33, 273, 16 do
      if needed or string.byte(head, at) == 0 then break end
      needed = lists(ARGV[1] .. string.sub(head, at, at + 15) .. ':' .. string.sub(hint, 13), key)
    end
  end
  if not needed then removed = removed + redis.call('UNLINK', KEYS[i]) end
end
return removed
