#!lua flags=no-writes
-- Finds the objects that index keys lead to.
--
-- KEYS  1.. index keys
-- ARGV  1 name of an object up to its primary key  2 size of the largest object that is answered, in bytes
-- Reply {hints, objects}: for each key its value, or false; and the object it leads to, false if there is none, empty if the caller
--       must read it: because it is larger, or an earlier key has led to it
-- Cost  one EVALSHA, one MGET, and one GETRANGE per object
local prefix, limit = ARGV[1], tonumber(ARGV[2])
local hints, objects, led = redis.call('MGET', unpack(KEYS)), {}, {}
for i = 1, #KEYS do
  local hint, object = hints[i], false
  if hint and #hint > 12 then
    local name = prefix .. string.sub(hint, 13)
    if led[name] then
      object = ''
    else
      led[name] = true
      -- A value of another type is no object.
      object = redis.pcall('GETRANGE', name, '0', ARGV[2])
      if type(object) ~= 'string' or object == '' then
        object = false
      elseif #object > limit then
        object = ''
      end
    end
  end
  objects[i] = object
end
return {hints, objects}
