-- Notes that a load has found nothing under a key, and removes objects that list the key and whose max age is over, or due to be over. If
-- an object lists the key and is not due, it may be newer than the load: it stays, and nothing is noted.
--
-- KEYS  1 clock  2 the key's object key, if it is a primary key, or else its index key
-- ARGV  1 the ticket, as store.lua has it: epoch and sequence first
--       2 the note: 12 bytes, the key's mark first  3 its lifetime in ms; 0: nothing is noted
--       4 prefix of object keys, to which schema:primary is added
--       5 the key as objects list it: 0 = primary or 1 = secondary (1 byte), and the key, a secondary one after its index and a colon
--       6 the node's idea of the server's time in ms, never behind; or 0  7 how long before its deadline an object is due, in ms
-- Reply 1 byte: 1 done, 2 overtaken, or an object lists the key and is not due, 4 the clock is lost; epoch and sequence, 8 bytes each
-- Cost  one EVALSHA, GETRANGE and SET, and for a secondary key one GET. For each schema, unless an index key leads nowhere, one GETRANGE;
--       an object there: one more, an UNLINK and, once, TIME. Touched since the ticket: one GETRANGE more
--
-- No `#!lua` at the beginning, so that a full server still runs the script. It removes an object and then takes the note; if there is no
-- object to remove, it refuses the note.
local call, unpacked = redis.call, struct.unpack
local head = call('GETRANGE', KEYS[1], '0', '303')
if #head < 304 or string.byte(head, 24) == 3 then return struct.pack('>BI4I4I4I4', 4, 0, 0, 0, 0) end
local eh, el, sh, sl = unpacked('>I4I4I4I4', head)
local teh, tel, th, tl = unpacked('>I4I4I4I4', ARGV[1])
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

local kind, key = string.byte(ARGV[5]), string.sub(ARGV[5], 2)
local due_until

-- true: the object must go; false: it lists the key and stays; nil: there is none, or it does not list the key.
local function must_go(name)
  local start = redis.pcall('GETRANGE', name, '0', '41')
  -- No object, or a note.
  if type(start) == 'string' and #start <= 12 then return nil end
  -- Something else than an object goes, as in store.lua.
  if type(start) ~= 'string' or #start < 42 then return true end
  local length, count = unpacked('>I4I2', start, 37)
  local body, at = call('GETRANGE', name, 42, 41 + count + length), count + 1
  for i = 1, count do
    if at + 4 > #body then return true end
    local other, size = unpacked('>BI4', body, at)
    if other == kind and string.sub(body, at + 5, at + 4 + size) == key then
      -- The key was deleted, and before the ticket, or the fence would have refused the note. So the object is older than the load.
      if string.byte(body, i) ~= 0 then return true end
      local high, low = unpacked('>I4I4', start, 21)
      if high == 0 and low == 0 then return false end
      if not due_until then
        local time = call('TIME')
        due_until = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[6])) + ARGV[7]
      end
      return high * 4294967296 + low <= due_until
    end
    at = at + 5 + size
  end
  return nil
end

local primary = kind == 0 and key
if not primary then
  local hint = redis.pcall('GET', KEYS[2])
  primary = type(hint) == 'string' and #hint > 12 and string.sub(hint, 13)
end
local stays = false
if primary then
  -- Look at the objects of every release: the row is gone for all of them. An index key must lead to each object that lists its key, so the
  -- note takes the place of an index key only if no object of any release needs it. An object key belongs to one release only.
  for at = 49, 289, 16 do
    if string.byte(head, at) == 0 then break end
    local name = ARGV[4] .. string.sub(head, at, at + 15) .. ':' .. primary
    local goes = must_go(name)
    if goes then call('UNLINK', name) end
    if goes == false and (kind ~= 0 or name == KEYS[2]) then stays = true end
  end
end
if stays then return answer(2) end
if ARGV[3] ~= '0' then call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
return answer(1)
