#!lua flags=allow-oom
-- Empties places of the table of followers (follow.lua): of a follower that leaves, or of one that has not followed for so long that its memory may not be
-- read any more.
--
-- KEYS  1 clock
-- ARGV  for each place two: its number, and what it begins with. A place is emptied only if it begins so
-- Reply how many places were emptied
-- Cost  one EVALSHA; for each place one GETRANGE and one SETRANGE
local emptied = 0
for i = 1, #ARGV, 2 do
  local from = 131584 + 32 * tonumber(ARGV[i])
  if redis.call('GETRANGE', KEYS[1], from, from + #ARGV[i + 1] - 1) == ARGV[i + 1] then
    redis.call('SETRANGE', KEYS[1], from, string.rep('\0', 32))
    emptied = emptied + 1
  end
end
return emptied
