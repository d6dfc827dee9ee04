#!lua flags=allow-oom
-- Removes an object that could not be decoded, or a lease that is given back, unless it was replaced meanwhile.
--
-- KEYS  1 object, or lease
-- ARGV  1 the bytes that were read
-- Reply 1 removed, 0 not
-- Cost  one EVALSHA and GET, and one UNLINK if it is removed
local held = redis.pcall('GET', KEYS[1])
-- A value of another type is not larder's, but it stands where larder's should.
if held == ARGV[1] or type(held) == 'table' then return redis.call('UNLINK', KEYS[1]) end
return 0
