#!lua
-- Stores an object under all of its keys: a fill or a put. Ends with log.lua.
--
-- KEYS  1 clock  2 object: prefix, schema (16 hex digits), ':', primary key  3.. index keys; after them, where there is a
--       version, the floor of the object's version; and last, where the payload was staged, the staged key
-- ARGV  1 header: 1 = put (1 byte), 1 = write the deadline by max age into the object (1), length of the prefix (2),
--         epoch and sequence of the ticket (8 each) and, where there is one, the version (8); big-endian
--       2 payload; empty: it was staged
--       3 marks: 8 bytes for each key, the primary one first
--       4 places: for each index key the position of its index (1 byte) and the length of what stands before the key (2)
--       5 lifetime of the object in ms, 0 = none  6 max age in ms, 0 = none
-- Reply {outcome, sequence, epoch}; outcome 1 stored, 2 overtaken, 3 outdated, 4 the clock is lost
-- Cost  one EVALSHA and, where nothing was touched since the ticket and the index keys are right, GETRANGE, MGET, SET and with a
--       max age TIME. Touched since: one GETRANGE more. A put: log.lua. A version: one GETRANGE. An index key to write: one SET
local call = redis.call
local clock, object, payload, marks, places = KEYS[1], KEYS[2], ARGV[2], ARGV[3], ARGV[4]
local put, dated, prefix, eh, el, th, tl = struct.unpack('>BBI2I4I4I4I4', ARGV[1])
put = put == 1
local count, versioned, staged = #places / 3, #ARGV[1] > 20, payload == '' and KEYS[#KEYS]

local head = call('GETRANGE', clock, 0, put and 287 or 31)
local ceh, cel, sequence, state = 0, 0, 0, 0
if #head >= 32 then
  local sh, sl, _
  ceh, cel, sh, sl, _, state = struct.unpack('>I4I4I4I4I4I4', head)
  sequence = sh * 4294967296 + sl
end
local epoch = ceh * 4294967296 + cel

-- 1. Refuse, if the ticket is of another epoch or a key was touched since it was taken. A sequence below the ticket's: the data
-- was replaced by older data. More touched than the log holds: it cannot be known.
local outcome = 1
local ticket = th * 4294967296 + tl
local touched_since = sequence - ticket
if epoch == 0 or state == 3 then
  outcome = 4
elseif ceh ~= eh or cel ~= el or touched_since < 0 or touched_since > 16384 then
  outcome = 2
elseif touched_since > 0 then
  local from, log = ticket % 16384
  if from + touched_since <= 16384 then
    log = call('GETRANGE', clock, 512 + 8 * from, 511 + 8 * (from + touched_since))
  else
    log = call('GETRANGE', clock, 512 + 8 * from, 131583)
      .. call('GETRANGE', clock, 512, 511 + 8 * (from + touched_since - 16384))
  end
  for at = 1, #marks, 8 do
    if string.find(log, string.sub(marks, at, at + 7), 1, true) then outcome = 2 end
  end
end
if staged and outcome == 1 and call('EXISTS', staged) == 0 then outcome = 2 end
if outcome == 4 or (outcome ~= 1 and not put) then
  if staged then call('UNLINK', staged) end
  return {outcome, sequence, epoch}
end

-- MGET answers false for a key that is missing or of another type.
local held
if count > 0 or versioned then held = call('MGET', unpack(KEYS, 3, 2 + count + (versioned and 1 or 0))) end

-- 2. Refuse, if a higher version is stored or demanded. Two halves, since 2^53 and more would lose digits in one number.
if versioned and outcome == 1 then
  local vh, vl = struct.unpack('>I4I4', ARGV[1], 21)
  local floor, stored = held[count + 1], redis.pcall('GETRANGE', object, 0, 19)
  if floor and #floor == 8 then
    local oh, ol = struct.unpack('>I4I4', floor)
    if oh > vh or (oh == vh and ol > vl) then outcome = 3 end
  end
  if type(stored) == 'string' and #stored == 20 and string.sub(stored, 1, 2) == 'L1' and string.byte(stored, 4) == 1 then
    local oh, ol = struct.unpack('>I4I4', stored, 13)
    if oh > vh or (oh == vh and ol > vl) then outcome = 3 end
  end
  if outcome == 3 and not put then
    if staged then call('UNLINK', staged) end
    return {3, sequence, epoch}
  end
end

-- 3. C2: whoever else holds one of the keys is invalidated. A hint: mark of the primary key (8), expiry in s (4), primary key.
local touched = put and marks or ''
local primary = string.sub(object, prefix + 18)
local wrong = false
for i = 1, count do
  if held[i] and string.sub(held[i], 13) ~= primary then wrong = true end
end
if wrong and outcome ~= 3 then
  local schemas = #head >= 288 and string.sub(head, 33) or call('GETRANGE', clock, 32, 287)
  for i = 1, count do
    local hint = held[i]
    if hint and #hint > 12 and string.sub(hint, 13) ~= primary then
      local position, before = struct.unpack('>BI2', places, 3 * i - 2)
      local key = string.sub(KEYS[2 + i], before + 1)
      local item = struct.pack('>BI4', position, #key) .. key
      local names, holds = {}, outcome == 2
      for at = 1, 241, 16 do
        if string.byte(schemas, at) == 0 then break end
        local name = string.sub(object, 1, prefix) .. string.sub(schemas, at, at + 15) .. ':' .. string.sub(hint, 13)
        names[#names + 1] = name
        -- Whether it lists this key; in doubt yes.
        local start = redis.pcall('GETRANGE', name, 36, 41)
        if type(start) ~= 'string' or #start < 6 then
          holds = holds or start ~= ''
        else
          local length, keys = struct.unpack('>I4I2', start)
          local list = call('GETRANGE', name, 42 + keys, 41 + keys + length)
          holds = holds or string.find(list, item, 1, true) ~= nil
        end
      end
      if holds then
        call('UNLINK', unpack(names))
        touched = touched .. string.sub(hint, 1, 8)
      end
    end
  end
end

-- 4. Objects of other releases hold an earlier state; so does this one, if it is not stored.
if put and (outcome ~= 1 or string.byte(head, 49) ~= 0) then
  for at = 33, 273, 16 do
    if string.byte(head, at) == 0 then break end
    local name = string.sub(object, 1, prefix) .. string.sub(head, at, at + 15) .. ':' .. primary
    if outcome == 2 or name ~= object then call('UNLINK', name) end
  end
end

-- 5. Store.
if outcome == 1 then
  local life, age = ARGV[5], tonumber(ARGV[6])
  if staged then
    call('RENAME', staged, object)
    if life ~= '0' then call('PEXPIRE', object, life) else call('PERSIST', object) end
  elseif life ~= '0' then
    call('SET', object, payload, 'PX', life)
  else
    call('SET', object, payload)
  end
  -- In seconds: after when an index key must be good, and until when one that is written is. It outlives its object, so that it
  -- needs no new lifetime with every fill, and is never shortened, since it may lead to another release's object as well.
  local needed, good = 0, 0
  if age > 0 then
    local time = call('TIME')
    local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + age
    needed, good = math.ceil(deadline / 1000), math.ceil((deadline + age) / 1000)
    -- Beyond 32 bits it never expires.
    if good > 4294967295 then good = 0 end
    if dated == 1 then
      call('SETRANGE', object, 20, struct.pack('>I4I4', math.floor(deadline / 4294967296), deadline % 4294967296))
    end
  end
  local hint
  for i = 1, count do
    local expiry = held[i] and string.sub(held[i], 13) == primary and struct.unpack('>I4', held[i], 9)
    if not expiry or (expiry > 0 and (good == 0 or expiry < needed)) then
      hint = hint or string.sub(marks, 1, 8) .. struct.pack('>I4', good) .. primary
      if good > 0 then
        call('SET', KEYS[2 + i], hint, 'EXAT', good)
      else
        call('SET', KEYS[2 + i], hint)
      end
    end
  end
elseif staged then
  call('UNLINK', staged)
end
