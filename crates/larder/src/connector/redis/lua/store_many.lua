#!lua
-- Stores several objects, one after the other: fills or puts. Goes on with store.lua, log.lua and store_each.lua.
--
-- KEYS  1 clock  2.. for each object, what store.lua has after its clock
-- ARGV  1 and 2 as store.lua's 1 and 5: the ticket, and how long an object is kept beyond its deadline
--       3.. for each object, as store.lua's 2 to 4: header, payload and lifetime. A payload of one byte, for a put: nothing is stored,
--       its keys are invalidated
-- Reply for each object what store.lua replies, 17 bytes, in one string
-- Cost  one EVALSHA and GETRANGE, and what store.lua costs for each object without its EVALSHA
--
-- Whether the ticket was overtaken is looked up in the log as it is before the first is stored, for each: so what one of them touches, its
-- own keys or whoever it displaces, does not overtake a later one, and the last of those that claim a key has it.
local function store(KEYS, ARGV)
