#!lua flags=allow-oom
-- Removes index keys that lead to no object that lists them.
--
-- KEYS  1 clock  2.. index keys
-- ARGV  1 prefix of object keys, to which schema:primary is added
--       2 how many bytes stand before index and key in the name of an index key
-- Reply the number of keys removed
-- Cost  one EVALSHA and GETRANGE; for each index key one GET, up to two GETRANGEs for each schema, and one UNLINK if it is removed
local removed = 0
local schemas = redis.call('GETRANGE', KEYS[1], 48, 303)

local function lists(name, item)
  local head = redis.pcall('GETRANGE', name, '36', '41')
  if type(head) ~= 'string' or #head < 6 then return head ~= '' end
  local length, count = struct.unpack('>I4I2', head)
  return string.find(redis.call('GETRANGE', name, 42 + count, 41 + count + length), item, 1, true) ~= nil
end

for i = 2, #KEYS do
  local hint = redis.pcall('GET', KEYS[i])
  if type(hint) == 'string' and #hint > 12 then
    local key = string.sub(KEYS[i], ARGV[2] + 1)
    local item = struct.pack('>BI4', 1, #key) .. key
    local needed = false
    for at = 1, 241, 16 do
      if needed or #schemas < at or string.byte(schemas, at) == 0 then break end
      needed = lists(ARGV[1] .. string.sub(schemas, at, at + 15) .. ':' .. string.sub(hint, 13), item)
    end
    if not needed then removed = removed + redis.call('UNLINK', KEYS[i]) end
  elseif type(hint) == 'table' and string.sub(hint.err, 1, 9) == 'WRONGTYPE' then
    removed = removed + redis.call('UNLINK', KEYS[i])
  end
end
return removed
