#!lua flags=no-writes
-- The table of the cache's followers (follow.lua), for a change that waits for them.
--
-- KEYS  1 clock
-- Reply what the clock begins with, 24 bytes: epoch, sequence, state; and the table, 32 bytes for each place
-- Cost  one EVALSHA and two GETRANGEs
return redis.call('GETRANGE', KEYS[1], '0', '23') .. redis.call('GETRANGE', KEYS[1], '131584', '-1')
