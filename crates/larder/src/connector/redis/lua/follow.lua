#!lua flags=allow-oom
-- A node that keeps objects of the cache in its own memory asks what was touched, and says what it knows already.
--
-- KEYS  1 clock
-- ARGV  1 the follower: 8 bytes of its own  2 its place in the table, as the last reply said; -1: it has none
--       3 the epoch that it follows, 8 bytes  4 up to which sequence it has applied all marks, 8 bytes  5 a counter, another one each time, 8 bytes
--       6 how many places there may be
-- Reply 1 byte: 1 the marks since then follow; 2 another epoch, or more marks than the log holds: it must drop everything; 3 the cache is being cleared;
--       4 the clock is lost; 5 the epoch says that nobody follows; 6 the table is full. Then epoch and sequence, 8 bytes each, the place as 4
--       bytes, and the marks
-- Cost  one EVALSHA, GETRANGE, and where the epoch says that changes wait for followers one GETRANGE and one SETRANGE. Marks: one GETRANGE more.
--       Without a place the whole table is read
--
-- The table stands in the clock behind the log, so that it is never lost without the clock: 32 bytes for each follower, ARGV 1, 3, 4 and 5. It says what
-- the follower knew *before* it sent this. An empty place is all zeros. A change reads the table (followers.lua).
local call, sub, unpacked = redis.call, string.sub, struct.unpack
local clock, id, place, most = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[6])
local head = call('GETRANGE', clock, '0', '23')
local nowhere = string.rep('\0', 20)
if #head < 24 or string.byte(head, 24) == 3 then return '\4' .. nowhere end
local at = sub(head, 1, 16)
if string.byte(head, 24) ~= 1 then return '\3' .. at .. struct.pack('>I4', 0) end
local terms = string.byte(head, 2)
if terms < 8 then return '\5' .. at .. struct.pack('>I4', 0) end

-- 1. Enter the table, unless no change waits for that: in the third byte of the epoch, 2 is bounded and 4 wait-only.
if terms < 10 then
  local own
  if place >= 0 then
    own = call('GETRANGE', clock, 131584 + 32 * place, 131591 + 32 * place) == id
  end
  if not own then
    local table, free = call('GETRANGE', clock, '131584', '-1')
    local places = math.floor(#table / 32)
    place = nil
    for i = 0, places - 1 do
      local other = sub(table, 32 * i + 1, 32 * i + 8)
      if other == id then
        place = i
        break
      elseif not free and other == '\0\0\0\0\0\0\0\0' then
        free = i
      end
    end
    place = place or free or places
    if place >= most then return '\6' .. at .. struct.pack('>I4', 0) end
  end
  call('SETRANGE', clock, 131584 + 32 * place, id .. ARGV[3] .. ARGV[4] .. ARGV[5])
else
  place = 0
end

-- 2. Answer what was touched since.
local answer = '\2' .. at .. struct.pack('>I4', place)
if sub(head, 1, 8) ~= ARGV[3] then return answer end
local sh, sl = unpacked('>I4I4', head, 9)
local kh, kl = unpacked('>I4I4', ARGV[4])
local known = kh * 4294967296 + kl
local since = sh * 4294967296 + sl - known
if since < 0 or since > 16384 then return answer end
answer = '\1' .. sub(answer, 2)
if since == 0 then return answer end
local from = known % 16384
if from + since <= 16384 then
  return answer .. call('GETRANGE', clock, 512 + 8 * from, 511 + 8 * (from + since))
end
return answer .. call('GETRANGE', clock, 512 + 8 * from, '131583') .. call('GETRANGE', clock, '512', 511 + 8 * (from + since - 16384))
