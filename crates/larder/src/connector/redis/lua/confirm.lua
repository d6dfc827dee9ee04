#!lua flags=allow-oom
-- Writes a key, so that a WAIT after it confirms this write and all writes before it.
--
-- KEYS  1 a key of no cache
-- ARGV  1 anything
-- Reply the status of SET
-- Cost  one EVAL and one SET, once for all callers that wait together; in strict mode only
return redis.call('SET', KEYS[1], ARGV[1], 'PX', '60000')
