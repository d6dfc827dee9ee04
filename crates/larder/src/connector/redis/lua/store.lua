-- Stores an object under all of its keys: a fill or a put. Begins with head.lua and ends with log.lua; with store_many.lua before it it
-- is a function.
--
-- KEYS  1 clock  2 object: prefix, schema (16 hex digits), ':', primary key  3.. index keys; after them, where there is a
--       version, the floor of the object's version; and last, where the payload was staged, the staged key
-- ARGV  1 what the clock begins with if nothing was touched since the ticket: its epoch, its sequence, 1; 8 bytes each, big-endian
--       2 header: 0 = fill, 1 = put, 2 = the first attempt of a set: a put that changes nothing if it is overtaken (1 byte), 1 = there is a version (1), 1 = write the deadline by max age into the object (1), length of the
--         prefix (2), length of what stands before index and key in the name of an index key (2), max age in ms, 0 = none (8),
--         version (8), marks: 8 bytes for each key, the primary one first
--       3 payload; empty: it was staged  4 lifetime of the object in ms, 0 = none  5 if any: how much of the max age, in ms, the
--         object is kept for beyond its deadline
-- Reply 1 byte: 1 stored, 2 overtaken, 3 outdated, 4 the clock is lost, and for a stored object 16 times the number of other objects that
--       had one of its keys and are gone, at most 15; epoch and sequence, 8 bytes each
-- Cost  one EVALSHA and, where nothing was touched since the ticket and the index keys are right, GETRANGE, MGET, SET and with a
--       max age TIME. Touched since: one GETRANGE more. A put: log.lua. A version: one GETRANGE. An index key to write: one SET
--
-- An argument, a string, a table, a closure, a number that becomes text: each costs about as much as a tenth of a GET. So
-- nothing is passed twice, taken apart before it is needed, or made to be thrown away.
local call, unpacked = redis.call, struct.unpack
local clock, object, payload = KEYS[1], KEYS[2], ARGV[3]
local mode, versioned, dated, prefix, before, ah, al, vh, vl = unpacked('>BBBI2I2I4I4I4I4', ARGV[2])
local put = mode ~= 0
local count = (#ARGV[2] - 31) / 8
local staged = payload == '' and KEYS[#KEYS]

-- 1. Refuse, if the ticket is of another epoch or a key was touched since it was taken. A sequence below the ticket's: the data
-- was replaced by older data. More touched than the log holds: it cannot be known.
local outcome = 1
local head = call('GETRANGE', clock, '0', put and '287' or '23')
local untouched = head == ARGV[1] or (put and string.sub(head, 1, 24) == ARGV[1])
local eh, el, sh, sl, high, state = 0, 0, 0, 0, 0, 0
if #head >= 24 and not (untouched and not put) then eh, el, sh, sl, high, state = unpacked('>I4I4I4I4I4I4', head) end
local sequence = sh * 4294967296 + sl
if not untouched then
  local teh, tel, th, tl = unpacked('>I4I4I4I4', ARGV[1])
  local ticket = th * 4294967296 + tl
  local touched_since = sequence - ticket
  if (eh == 0 and el == 0) or state == 3 then
    outcome = 4
  elseif eh ~= teh or el ~= tel or state ~= 1 or touched_since < 0 or touched_since > 16384 then
    outcome = 2
  elseif touched_since > 0 then
    local from, log = ticket % 16384
    if from + touched_since <= 16384 then
      log = call('GETRANGE', clock, 512 + 8 * from, 511 + 8 * (from + touched_since))
    else
      log = call('GETRANGE', clock, 512 + 8 * from, '131583')
        .. call('GETRANGE', clock, '512', 511 + 8 * (from + touched_since - 16384))
    end
    for at = 24, #ARGV[2] - 7, 8 do
      if string.find(log, string.sub(ARGV[2], at, at + 7), 1, true) then outcome = 2 end -- protection: fence
    end
  end
end
if staged and outcome == 1 and call('EXISTS', staged) == 0 then outcome = 2 end
if outcome == 4 or (outcome == 2 and mode ~= 1) then
  -- What the first attempt of a set has staged is for the second; if there is none it expires.
  if staged and mode ~= 2 then call('UNLINK', staged) end
  return struct.pack('>BI4I4I4I4', outcome, eh, el, sh, sl)
end

-- MGET answers false for a key that is missing or of another type.
local held
if versioned == 1 then
  held = call('MGET', unpack(KEYS, 3, 3 + count))
elseif count > 0 then
  held = call('MGET', unpack(KEYS, 3, 2 + count))
end

-- 2. Refuse, if a higher version is stored or demanded. Two halves, since 2^53 and more would lose digits in one number.
if versioned == 1 and outcome == 1 then
  local floor, lower = held[count + 1], false
  if floor and #floor == 8 then
    local oh, ol = unpacked('>I4I4', floor)
    if oh > vh or (oh == vh and ol > vl) then outcome = 3 end -- protection: version
  end
  -- Of every release: what one of them has replaced must not come back in another.
  local schemas = #head >= 288 and string.sub(head, 33) or call('GETRANGE', clock, '32', '287')
  for at = 1, 241, 16 do
    if string.byte(schemas, at) == 0 then break end
    local name = string.sub(object, 1, prefix) .. string.sub(schemas, at, at + 15) .. string.sub(object, prefix + 17)
    local stored = redis.pcall('GETRANGE', name, '0', '19')
    if type(stored) == 'string' and #stored == 20 and string.sub(stored, 1, 2) == 'L1' and string.byte(stored, 4) == 1 then
      local oh, ol = unpacked('>I4I4', stored, 13)
      if oh > vh or (oh == vh and ol > vl) then
        outcome = 3 -- protection: version
      elseif put and (oh < vh or ol < vl) then
        -- Earlier, whatever becomes of this one; what it replaces itself it need not remove.
        if name == object then lower = true else call('UNLINK', name) end
      end
    elseif type(stored) == 'table' and string.sub(stored.err, 1, 9) ~= 'WRONGTYPE' then
      -- What may not be read may be a later version.
      error(stored)
    end
  end
  if outcome == 3 and lower then call('UNLINK', object) end
  if outcome == 3 and not put then
    if staged then call('UNLINK', staged) end
    return '\3' .. string.sub(head, 1, 16)
  end
end

-- 3. C2: whoever else holds one of the keys is invalidated. A hint: mark of the primary key (8), expiry in s (4), primary key.
-- Hints that are the same string, as those of one store are, are looked at once.
local touched = put and string.sub(ARGV[2], 24) or ''
local primary = string.sub(object, prefix + 18)
local displaced = 0
local right, wrong
for i = 1, count do
  local hint = held[i]
  if hint and hint ~= right then
    if string.sub(hint, 13) == primary then
      right = hint
    else
      wrong = true
    end
  end
end
if wrong then
  -- What each of the others lists is read once, however many of the keys lead to it: a table of its keys as they are listed; false, if it
  -- is not there; true, if it cannot be known.
  local lists = {}
  local function listed(name)
    local start = redis.pcall('GETRANGE', name, '36', '41')
    if start == '' then return false end
    if type(start) ~= 'string' or #start < 6 then return true end
    local length, keys = unpacked('>I4I2', start)
    local list = call('GETRANGE', name, 42 + keys, 41 + keys + length)
    local items, at = {}, 1
    while at + 4 <= #list do
      local after = at + 5 + unpacked('>I4', list, at + 1)
      items[string.sub(list, at, after - 1)] = true
      at = after
    end
    return at ~= #list + 1 or items
  end
  local schemas = #head >= 288 and string.sub(head, 33) or call('GETRANGE', clock, '32', '287')
  for i = 1, count do
    local hint = held[i]
    if hint and #hint == 12 and outcome ~= 1 then
      -- It says that the source has nothing, and nothing else will take its place.
      call('UNLINK', KEYS[2 + i])
    elseif hint and #hint > 12 and outcome ~= 3 and string.sub(hint, 13) ~= primary then
      local key = string.sub(KEYS[2 + i], before + 1)
      local item = struct.pack('>BI4', 1, #key) .. key
      local names, holds = {}, outcome == 2
      for at = 1, 241, 16 do
        if string.byte(schemas, at) == 0 then break end
        local name = string.sub(object, 1, prefix) .. string.sub(schemas, at, at + 15) .. ':' .. string.sub(hint, 13)
        names[#names + 1] = name
        -- Whether it lists this key; in doubt yes.
        if not holds then
          if lists[name] == nil then lists[name] = listed(name) end
          holds = lists[name] == true or (lists[name] and lists[name][item])
        end
      end
      if holds then
        -- Of several releases, and one object all the same.
        if call('UNLINK', unpack(names)) > 0 and displaced < 15 then displaced = displaced + 1 end
        for _, name in ipairs(names) do lists[name] = false end
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
    if outcome == 2 or (outcome == 1 and name ~= object) then call('UNLINK', name) end
  end
end

-- 5. Store.
if outcome == 1 then
  local life = ARGV[4]
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
  if ah > 0 or al > 0 then
    local age, time = ah * 4294967296 + al, call('TIME')
    -- The text of the seconds becomes a number here; the part of a second is rounded up.
    needed = math.ceil(time[1] + 1 + age / 1000)
    good = math.ceil(needed + age / 1000)
    -- Beyond 32 bits it never expires.
    if good > 4294967295 then good = 0 end
    if dated == 1 then
      local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + age - (ARGV[5] or 0)
      call('SETRANGE', object, '20', struct.pack('>I4I4', math.floor(deadline / 4294967296), deadline % 4294967296))
    end
  end
  local hint, kept
  for i = 1, count do
    local there = held[i]
    if not there or there ~= kept then
      local expiry = there and string.sub(there, 13) == primary and unpacked('>I4', there, 9)
      if expiry and (expiry == 0 or (good > 0 and expiry >= needed)) then
        kept = there
      else
        hint = hint or string.sub(ARGV[2], 24, 31) .. struct.pack('>I4', good) .. primary
        if good > 0 then
          call('SET', KEYS[2 + i], hint, 'EXAT', good)
        else
          call('SET', KEYS[2 + i], hint)
        end
      end
    end
  end
elseif staged then
  call('UNLINK', staged)
end
-- The usual fill: the clock is what it was.
if untouched and not put then
  if touched == '' then return '\1' .. string.sub(ARGV[1], 1, 16) end
  eh, el, sh, sl = unpacked('>I4I4I4I4', ARGV[1])
  sequence = sh * 4294967296 + sl
end
if outcome == 1 and displaced > 0 then outcome = outcome + 16 * displaced end
