#!lua flags=allow-oom
-- Renews the last-use age of objects, but never beyond their max age and the time that they are kept after it.
--
-- KEYS  1.. objects, or index keys that lead to them
-- ARGV  1 last-use age in ms  2 how long, in ms, an object is kept after its max age  3 if KEYS are index keys: name of an object
--       up to its primary key
-- Reply the number of objects touched
-- Cost  one EVALSHA, and two or three commands per object, for an index key one more; sent once per tenth of the last-use age, not
--       per get
local call = redis.call
-- Turning a number into text costs a third of a GET, so an argument that came as text is passed on as it is.
local age, prefix, touched, now = ARGV[1], ARGV[3], 0
for i = 1, #KEYS do
  local object = KEYS[i]
  if prefix then
    local hint = redis.pcall('GET', object)
    object = type(hint) == 'string' and #hint > 12 and prefix .. string.sub(hint, 13)
  end
  local head = object and redis.pcall('GETRANGE', object, '20', '27')
  if type(head) == 'string' and #head == 8 then
    local life = age
    if head ~= '\0\0\0\0\0\0\0\0' then
      if not now then
        local time = call('TIME')
        now = time[1] * 1000 + math.floor(time[2] / 1000)
      end
      local high, low = struct.unpack('>I4I4', head)
      local left = high * 4294967296 + low + ARGV[2] - now
      if left < age + 0 then life = left end
    end
    -- If the lifetime is over, PEXPIRE deletes the object, as it should.
    touched = touched + call('PEXPIRE', object, life)
  end
end
return touched
