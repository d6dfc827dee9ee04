#!lua
-- Notes that the source has nothing under a key, as a load that began at the ticket has found.
--
-- KEYS  1 clock  2 the key's object key, if it is a primary key, or else its index key
-- ARGV  1 the ticket, as store.lua has it: epoch and sequence first  2 what is noted: 12 bytes, the key's mark first  3 its lifetime in ms
--       4 prefix of object keys, to which schema:primary is added; empty, if the key is a primary key
-- Reply 1 byte: 1 noted, 2 overtaken, or an object has the key, 4 the clock is lost; epoch and sequence, 8 bytes each
-- Cost  one EVALSHA, GETRANGE, GET and SET; touched since: one GETRANGE more. An index key that leads nowhere: one EXISTS more
local call = redis.call
local head = call('GETRANGE', KEYS[1], '0', '287')
if #head < 288 or string.byte(head, 24) == 3 then return struct.pack('>BI4I4I4I4', 4, 0, 0, 0, 0) end
local eh, el, sh, sl = struct.unpack('>I4I4I4I4', head)
local teh, tel, th, tl = struct.unpack('>I4I4I4I4', ARGV[1])
local ticket = th * 4294967296 + tl
local touched_since = sh * 4294967296 + sl - ticket
local function answer(outcome) return string.char(outcome) .. string.sub(head, 1, 16) end

if eh ~= teh or el ~= tel or touched_since < 0 or touched_since > 16384 then return answer(2) end
if touched_since > 0 then
  local from, log = ticket % 16384
  if from + touched_since <= 16384 then
    log = call('GETRANGE', KEYS[1], 512 + 8 * from, 511 + 8 * (from + touched_since))
  else
    log = call('GETRANGE', KEYS[1], 512 + 8 * from, '131583')
      .. call('GETRANGE', KEYS[1], '512', 511 + 8 * (from + touched_since - 16384))
  end
  if string.find(log, string.sub(ARGV[2], 1, 8), 1, true) then return answer(2) end -- protection: fence
end

-- Only in place of nothing: an index key that leads to an object must go on leading there.
local held = redis.pcall('GET', KEYS[2])
if held and held ~= ARGV[2] then
  if type(held) ~= 'string' or #held < 13 or ARGV[4] == '' then return answer(2) end
  for at = 33, 273, 16 do
    if string.byte(head, at) == 0 then break end
    if call('EXISTS', ARGV[4] .. string.sub(head, at, at + 15) .. ':' .. string.sub(held, 13)) == 1 then return answer(2) end
  end
end
call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return answer(1)
