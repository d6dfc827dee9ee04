-- Stores an object under all of its keys: a fill or a put. Begins with shebang.lua and ends with write_marks.lua; with store_many.lua before it it
-- is a function.
--
-- KEYS  1 clock  2 object: prefix, schema (16 hex digits), ':', primary key  3.. index keys; after them, where there is a
--       version, the floor of the object's version; and last, where the payload was staged, the staged key
-- ARGV  1 what the clock begins with if nothing was touched since the ticket: its epoch, its sequence, 1; 8 bytes each, big-endian
--       2 header: 0 = fill, 1 = put, 2 = the first attempt of a set: a put that changes nothing if it is overtaken (1 byte), 1 = there is a
--         version (1), 1 = write the deadline by max age into the object (1), length of the prefix (2), length of what stands before index and
--         key in the name of an index key (2), max age in ms, 0 = none (8), version (8), connection
--         (8), label of the index keys (4), marks: 8 bytes for each
--         key, the primary one first
--       3 payload; empty: it was staged  4 lifetime of the object in ms, 0 = none  5 lifetime of an index key in ms, more than twice
--         as long as the longest of an object, 0 = none  6 if any: how much of the max age, in ms, the object is kept for beyond its deadline
-- Reply 1 byte: 1 stored, 2 overtaken, 3 outdated, 4 the clock is lost, 5 a fill was stored, and nodes must forget something, and for a stored object 16 times the number of other objects that
--       had one of its keys and are gone, at most 15; epoch and sequence, 8 bytes each
-- Cost  one EVALSHA and, where nothing was touched since the ticket and the index keys are right, GETRANGE, MGET, SET and with a
--       max age PEXPIRE. Touched since: one GETRANGE more. A put: write_marks.lua. A version: one GETRANGE. An index key to write: one SET
--
-- What a string costs that crosses the border of Lua, or is made within: about 150 instructions, and 10 for each byte, since Lua hashes every
-- byte; a number that becomes text 1,700; a command 4,500 and more. A GET is 5,000. So nothing is passed twice, taken apart before it is needed,
-- or made to be thrown away. `docs/decisions/cost-of-scripts.md` has the figures.
local call, unpacked, sub = redis.call, struct.unpack, string.sub
local clock, object, header, payload = KEYS[1], KEYS[2], ARGV[2], ARGV[3]
local mode, versioned, dated, prefix_high, prefix = string.byte(header, 1, 5)
local put, count = mode ~= 0, (#header - 43) / 8
local staged = payload == '' and KEYS[#KEYS]
prefix = prefix_high * 256 + prefix

-- 1. Refuse the object if its ticket is of another epoch, or a key was touched after the ticket. Refuse it as well if the sequence is below the
-- ticket's, since older data has replaced the data, and if more keys were touched than the log holds.
-- The first attempt of a set is not overtaken if only its own connection has written since the ticket: it sent all of that before.
-- A put also reads whether there are other releases: they are listed from byte 48 on, 16 bytes each.
local outcome = 1
local head = call('GETRANGE', clock, '0', put and '64' or '23')
local untouched = head == ARGV[1] or (put and sub(head, 1, 24) == ARGV[1])
if not untouched then
  if #head < (put and 65 or 24) then head = string.rep('\0', 65) end
  local epoch, state = sub(head, 1, 8), string.byte(head, 24)
  if epoch == '\0\0\0\0\0\0\0\0' or state == 3 then
    outcome = 4
  elseif epoch ~= sub(ARGV[1], 1, 8) or state ~= 1 then
    outcome = 2
  else
    local sh, sl = unpacked('>I4I4', head, 9)
    local th, tl = unpacked('>I4I4', ARGV[1], 9)
    local ticket = th * 4294967296 + tl
    local touched_since = sh * 4294967296 + sl - ticket
    local alone_since
    if mode == 2 and sub(head, 25, 32) == sub(header, 24, 31) then
      local ah, al = unpacked('>I4I4', head, 33)
      alone_since = ah * 4294967296 + al
    end
    if touched_since < 0 or touched_since > 16384 then
      outcome = 2
    elseif touched_since > 0 and not (alone_since and alone_since <= ticket) then
      local from, log = ticket % 16384
      if from + touched_since <= 16384 then
        log = call('GETRANGE', clock, 512 + 8 * from, 511 + 8 * (from + touched_since))
      else
        log = call('GETRANGE', clock, 512 + 8 * from, '131583')
          .. call('GETRANGE', clock, '512', 511 + 8 * (from + touched_since - 16384))
      end
      for at = 36, #header - 7, 8 do
        if string.find(log, sub(header, at, at + 7), 1, true) then outcome = 2 end -- protection: fence
      end
    end
  end
end
if staged and outcome == 1 and call('EXISTS', staged) == 0 then outcome = 2 end
if outcome == 4 or (outcome == 2 and mode ~= 1) then
  -- The second attempt of a set needs what the first has staged. If there is no second attempt, it expires.
  if staged and mode ~= 2 then call('UNLINK', staged) end
  return string.char(outcome) .. sub(head, 1, 16)
end

-- MGET answers false for a key that is missing or of another type.
local held
if versioned == 1 then
  held = call('MGET', unpack(KEYS, 3, 3 + count))
elseif count > 0 then
  held = call('MGET', unpack(KEYS, 3, 2 + count))
end

-- 2. Refuse the object if a higher version is stored or demanded. Compare in two halves, because a number is exact only up to 2^53.
if versioned == 1 and outcome == 1 then
  local vh, vl = unpacked('>I4I4', header, 16)
  local floor, lower = held[count + 1], false
  if floor and #floor == 8 then
    local oh, ol = unpacked('>I4I4', floor)
    if oh > vh or (oh == vh and ol > vl) then outcome = 3 end -- protection: version
  end
  -- Look at the objects of every release: what one release has replaced must not come back in another.
  local schemas = call('GETRANGE', clock, '48', '303')
  for at = 1, 241, 16 do
    if (string.byte(schemas, at) or 0) == 0 then break end
    local name = sub(object, 1, prefix) .. sub(schemas, at, at + 15) .. sub(object, prefix + 17)
    local stored = redis.pcall('GETRANGE', name, '0', '19')
    if type(stored) == 'string' and #stored == 20 and sub(stored, 1, 2) == 'L1' and string.byte(stored, 4) == 1 then
      local oh, ol = unpacked('>I4I4', stored, 13)
      if oh > vh or (oh == vh and ol > vl) then
        outcome = 3 -- protection: version
      elseif put and (oh < vh or ol < vl) then
        -- A lower version goes, whatever becomes of this object. If this object replaces it, it need not be removed.
        if name == object then lower = true else call('UNLINK', name) end
      end
    elseif type(stored) == 'table' and sub(stored.err, 1, 9) ~= 'WRONGTYPE' then
      -- An object that the user may not read may have a higher version.
      error(stored)
    end
  end
  if outcome == 3 and lower then call('UNLINK', object) end
  if outcome == 3 and not put then
    if staged then call('UNLINK', staged) end
    return '\3' .. sub(head, 1, 16)
  end
end

-- 3. C2: invalidate any other object that holds one of the keys. An index key holds a hint: label (4), mark of the primary key (8), primary
-- key. Index keys that were written together hold the same string, which is looked at once.
local touched = put and sub(header, 36) or ''
-- Whether nodes keep objects in their own memory (follow.lua).
local followed = string.byte(head, 2) >= 8
local primary = sub(object, prefix + 18)
local displaced = 0
local right, wrong
for i = 1, count do
  local hint = held[i]
  if hint and hint ~= right then
    if sub(hint, 13) == primary then
      right = hint
    else
      wrong = true
    end
  end
end
if wrong then
  -- The key list of each other object is read once, however many of the keys lead to the object: a table of its keys as they are listed;
  -- false: there is no object; true: the list cannot be read.
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
      items[sub(list, at, after - 1)] = true
      at = after
    end
    return at ~= #list + 1 or items
  end
  local schemas, before = call('GETRANGE', clock, '48', '303'), unpacked('>I2', header, 6)
  for i = 1, count do
    local hint = held[i]
    if hint and #hint == 12 and outcome ~= 1 then
      -- A note that the source has nothing. It must go, because no index key takes its place.
      call('UNLINK', KEYS[2 + i])
    elseif hint and #hint > 12 and outcome ~= 3 and sub(hint, 13) ~= primary then
      local key = sub(KEYS[2 + i], before + 1)
      local item = struct.pack('>BI4', 1, #key) .. key
      local names, holds = {}, outcome == 2
      for at = 1, 241, 16 do
        if (string.byte(schemas, at) or 0) == 0 then break end
        local name = sub(object, 1, prefix) .. sub(schemas, at, at + 15) .. ':' .. sub(hint, 13)
        names[#names + 1] = name
        -- Whether the object lists this key; in doubt yes.
        if not holds then
          if lists[name] == nil then lists[name] = listed(name) end
          holds = lists[name] == true or (lists[name] and lists[name][item])
        end
      end
      if holds then
        -- The objects of several releases count as one.
        if call('UNLINK', unpack(names)) > 0 and displaced < 15 then displaced = displaced + 1 end
        for _, name in ipairs(names) do lists[name] = false end
      end
      -- A node may have an object in its memory that is not here any more.
      if holds or followed then touched = touched .. sub(hint, 5, 12) end
    end
  end
end

-- 4. Remove the earlier state: the objects of other releases and, if this object is overtaken, its own.
if put and (outcome ~= 1 or string.byte(head, 65) ~= 0) then
  local schemas = call('GETRANGE', clock, '48', '303')
  for at = 1, 241, 16 do
    if (string.byte(schemas, at) or 0) == 0 then break end
    local name = sub(object, 1, prefix) .. sub(schemas, at, at + 15) .. ':' .. primary
    if outcome == 2 or (outcome == 1 and name ~= object) then call('UNLINK', name) end
  end
end

-- A fill that replaces an object tells those who have it in their own memory, as a put does.
if followed and not put and outcome == 1 and call('EXISTS', object) == 1 then touched = touched .. sub(header, 36, 43) end

-- 5. Store.
if outcome == 1 then
  local life, index_life = ARGV[4], ARGV[5]
  if staged then
    call('RENAME', staged, object)
    if life ~= '0' then call('PEXPIRE', object, life) else call('PERSIST', object) end
  elseif life ~= '0' then
    call('SET', object, payload, 'PX', life)
  else
    call('SET', object, payload)
  end
  if dated == 1 then
    local ah, al = unpacked('>I4I4', header, 8)
    local time = call('TIME')
    local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + ah * 4294967296 + al - (ARGV[6] or 0)
    call('SETRANGE', object, '20', struct.pack('>I4I4', math.floor(deadline / 4294967296), deadline % 4294967296))
  end
  -- An index key outlives its object, so that not every fill must write it: it stays as it is while it outlives the object's max age. Its
  -- lifetime is never shortened, because it may lead to another release's object as well. Index keys with one label were written together
  -- and have one lifetime, so the first of them is checked. PEXPIRE GT changes nothing if the key lives longer. Label 0: no lifetime.
  local hint, kept
  for i = 1, count do
    local there = held[i]
    if not there or there ~= kept then
      local lasts = there and (there == right or sub(there, 13) == primary)
      if lasts and sub(there, 1, 4) ~= '\0\0\0\0' then
        lasts = index_life ~= '0' and call('PEXPIRE', KEYS[2 + i], dated == 1 and index_life / 2 or life, 'GT') == 0
      end
      if lasts then
        kept = there
      else
        hint = hint or sub(header, 32, 43) .. primary
        if index_life ~= '0' then
          call('SET', KEYS[2 + i], hint, 'PX', index_life)
        else
          call('SET', KEYS[2 + i], hint)
        end
      end
    end
  end
elseif staged then
  call('UNLINK', staged)
end
-- The usual fill: nothing was touched, so the clock has not changed.
if touched == '' and outcome == 1 then return '\1' .. sub(head, 1, 16) end
local writer = sub(header, 24, 31)
if outcome == 1 then outcome = (followed and not put and 5 or 1) + 16 * displaced end
