#!lua
-- Stores several objects, one after the other: fills or puts. Goes on with store.lua, write_marks.lua and store_each.lua.
--
-- KEYS  1 clock  2 the record of the call, if the call takes several scripts; then for each object, what store.lua has after its clock
-- ARGV  1 and 2 as store.lua's 1 and 6: the ticket, and how long an object is kept beyond its deadline
--       3 which script of its call this is: 0 the only one, 1 the first, 2 one between, 3 the last
--       4 as store.lua's 5: the lifetime of an index key
--       5.. for each object, as store.lua's 2 to 4: header, payload and lifetime. A payload of one byte, for a put: nothing is stored,
--       its keys are invalidated
-- Reply for each object what store.lua replies, 17 bytes, in one string
-- Cost  one EVALSHA and GETRANGE, and what store.lua costs for each object without its EVALSHA. Of several: one GET, one SET, and one GETRANGE
--       if others have touched something since the script before
--
-- A call has one ticket, and only other callers can overtake it. What an object of the call touches, its own keys or those of objects that it
-- displaces, does not overtake a later object. Of the objects that claim a key, the last one has it.
--
-- So each script leaves a record for the next: the sequence at its end (8 bytes), and the marks that others have written from the call's
-- ticket to that sequence. Because a script is atomic, others have written all marks beyond that sequence when the next script begins. If
-- the record is missing, or others have touched more than the log holds, their marks cannot be known, and the objects are overtaken.
local function store(KEYS, ARGV)
