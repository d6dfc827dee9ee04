#!lua flags=allow-oom
-- Gives an object its whole last-use age again, but never more than is left of its max age.
--
-- KEYS  1 object
-- ARGV  1 last-use age in ms  2 how long, in ms, an object is kept after its max age
-- Reply 1 touched, 0 nothing there
-- Cost  one EVALSHA and two or three commands; sent once per tenth of the last-use age, not per get
local head = redis.pcall('GETRANGE', KEYS[1], 20, 27)
if type(head) ~= 'string' or #head < 8 then return 0 end
local high, low = struct.unpack('>I4I4', head)
local life = tonumber(ARGV[1])
if high > 0 or low > 0 then
  local time = redis.call('TIME')
  local left = high * 4294967296 + low + ARGV[2] - (time[1] * 1000 + math.floor(time[2] / 1000))
  if left < life then life = left end
end
-- A lifetime that is over deletes the object, as it should.
return redis.call('PEXPIRE', KEYS[1], life)
