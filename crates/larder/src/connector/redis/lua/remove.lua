#!lua flags=allow-oom
-- Removes keys that a SCAN has found, as long as the cache is being cleared. A later removal would take the index keys of objects that
-- were stored since, and no invalidation through these keys would find the objects.
--
-- KEYS  1 clock  2.. what is to be removed
-- ARGV  1 the epoch that is being cleared
-- Reply the number of keys removed; -1 the clock is settled: everything older is gone already; -2 it has another epoch, or is lost
-- Cost  one EVALSHA, BITFIELD and UNLINK for up to 1,000 keys
local head = redis.call('BITFIELD', KEYS[1], 'GET', 'i64', '#0', 'GET', 'i64', '#2')
if head[1] ~= tonumber(ARGV[1]) then return -2 end
if head[2] == 1 then return -1 end
return redis.call('UNLINK', unpack(KEYS, 2))
