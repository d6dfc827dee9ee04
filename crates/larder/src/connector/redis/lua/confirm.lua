#!lua flags=allow-oom
-- A write that goes to the replicas after all that came before it, so that a WAIT after it is about all of that.
--
-- KEYS  1 a key of no cache
-- ARGV  1 anything
-- Reply the status of SET
-- Cost  one EVAL and one SET, once for all who wait together; in strict mode only
return redis.call('SET', KEYS[1], ARGV[1], 'PX', '60000')
