#!lua
-- Stores an object under all of its keys: a fill or a put.
--
-- KEYS  1 clock  2 object  3 staged payload, or the clock again  4.. index keys, and after them, where there is a version, the
--       floor of the object's version
-- ARGV  1 'fill' | 'put'
--       2 epoch of the ticket  3 sequence of the ticket
--       4 payload; empty: it waits under KEYS[3]
--       5 lifetime of the object in ms, 0 = none  6 max age in ms, 0 = none
--       7 '1': write the deadline by max age into the object
--       8 version, 8 bytes big-endian, or empty
--       9 prefix of object keys, to which schema:primary is added
--      10 fence slot of the primary key, 2 bytes big-endian  11 primary key
--      12 one entry per index key: position of its index (1 byte), length of what stands before the key itself (2 bytes)
--      13.. fence slots as BITFIELD takes them: of the primary key, then of each index key
-- Reply {outcome, sequence}; outcome 1 stored, 2 overtaken, 3 outdated, 4 the clock is lost
-- Cost  one EVALSHA and, where nothing was touched since the ticket and the index keys are right, GETRANGE, MGET, SET and with a
--       max age TIME. A put adds one BITFIELD, a version one GETRANGE, an index key that must be written one SET
local clock, object, staged = KEYS[1], KEYS[2], KEYS[3]
local put, version, primary, places = ARGV[1] == 'put', ARGV[8], ARGV[11], ARGV[12]
local count = #places / 3

local function answer(outcome, sequence)
  if outcome ~= 1 and staged ~= clock then redis.call('UNLINK', staged) end
  return {outcome, sequence}
end

local head = redis.call('GETRANGE', clock, 0, put and 287 or 31)
if #head < 32 then return answer(4, 0) end
local eh, el, sh, sl, th, tl = struct.unpack('>I4I4I4I4I4I4', head)
if (eh == 0 and el == 0) or tl == 3 then return answer(4, 0) end
local sequence, ticket = sh * 4294967296 + sl, tonumber(ARGV[3])

-- A sequence below the ticket's: the data has been replaced by older data.
local overtaken = eh * 4294967296 + el ~= tonumber(ARGV[2]) or sequence < ticket
if sequence > ticket and not overtaken then
  local look = {'BITFIELD', clock}
  for i = 13, #ARGV do
    local n = #look
    look[n + 1], look[n + 2], look[n + 3] = 'GET', 'i64', ARGV[i]
  end
  for _, fence in ipairs(redis.call(unpack(look))) do
    if fence > ticket then overtaken = true end
  end
end
if staged ~= clock and redis.call('EXISTS', staged) == 0 then overtaken = true end
if overtaken and not put then return answer(2, sequence) end

-- MGET answers false for a key that is missing or of another type.
local held = #KEYS > 3 and redis.call('MGET', unpack(KEYS, 4)) or {}

local outdated = false
if version ~= '' then
  -- 2^53 and more would lose digits in one number.
  local vh, vl = struct.unpack('>I4I4', version)
  local function newer(other, at)
    local oh, ol = struct.unpack('>I4I4', other, at)
    return oh > vh or (oh == vh and ol > vl)
  end
  local floor, stored = held[count + 1], redis.pcall('GETRANGE', object, 0, 19)
  if floor and #floor == 8 and newer(floor, 1) then outdated = true end
  if type(stored) == 'string' and #stored == 20 and string.sub(stored, 1, 2) == 'L1' and string.byte(stored, 4) == 1
    and newer(stored, 13) then outdated = true end
  if outdated and not put then return answer(3, sequence) end
end

local all
local function schemas()
  if not all then
    all = {}
    local text = #head >= 288 and string.sub(head, 33) or redis.call('GETRANGE', clock, 32, 287)
    for at = 1, 241, 16 do
      if string.byte(text, at) == 0 then break end
      all[#all + 1] = string.sub(text, at, at + 15)
    end
  end
  return all
end

-- Whether a stored object lists this key; in doubt yes.
local function lists(name, item)
  local start = redis.pcall('GETRANGE', name, 36, 41)
  if type(start) ~= 'string' or #start < 6 then return start ~= '' end
  local length, keys = struct.unpack('>I4I2', start)
  return string.find(redis.call('GETRANGE', name, 42 + keys, 41 + keys + length), item, 1, true) ~= nil
end

local fences = {'BITFIELD', clock, 'SET', 'i64', '#1', sequence + 1}
local function fence(slot)
  local n = #fences
  fences[n + 1], fences[n + 2], fences[n + 3], fences[n + 4] = 'SET', 'i64', slot, sequence + 1
end

-- C2: whoever else holds one of the keys is invalidated. An index key that is right already is left alone.
local right = {}
if overtaken or not outdated then
  for i = 1, count do
    local hint = held[i]
    if hint and #hint > 10 then
      local other = string.sub(hint, 11)
      if other == primary then
        right[i] = true
      else
        local position, before = struct.unpack('>BI2', places, 3 * i - 2)
        local key = string.sub(KEYS[3 + i], before + 1)
        local item = struct.pack('>BI4', position, #key) .. key
        local holds = overtaken
        for _, schema in ipairs(schemas()) do
          if holds then break end
          holds = lists(ARGV[9] .. schema .. ':' .. other, item)
        end
        if holds then
          for _, schema in ipairs(schemas()) do redis.call('UNLINK', ARGV[9] .. schema .. ':' .. other) end
          fence('#' .. (64 + struct.unpack('>I2', hint)))
        end
      end
    end
  end
end

if put then
  for i = 13, #ARGV do fence(ARGV[i]) end
  -- Objects of other releases hold an earlier state.
  for _, schema in ipairs(schemas()) do
    local name = ARGV[9] .. schema .. ':' .. primary
    if overtaken or name ~= object then redis.call('UNLINK', name) end
  end
end
if #fences > 6 then
  sequence = sequence + 1
  redis.call(unpack(fences))
end
if overtaken or outdated then return answer(overtaken and 2 or 3, sequence) end

local life, age = tonumber(ARGV[5]), tonumber(ARGV[6])
if staged ~= clock then
  redis.call('RENAME', staged, object)
  if life > 0 then redis.call('PEXPIRE', object, life) else redis.call('PERSIST', object) end
elseif life > 0 then
  redis.call('SET', object, ARGV[4], 'PX', life)
else
  redis.call('SET', object, ARGV[4])
end

local deadline, until_ = 0, 0
if age > 0 then
  local time = redis.call('TIME')
  deadline = time[1] * 1000 + math.floor(time[2] / 1000) + age
  -- An index key outlives its object, so that it needs no new lifetime with every fill, and is never shortened: it may lead
  -- to another release's object as well.
  until_ = deadline + age
  if ARGV[7] == '1' then
    redis.call('SETRANGE', object, 20, struct.pack('>I4I4', math.floor(deadline / 4294967296), deadline % 4294967296))
  end
end
local hint
for i = 1, count do
  local keep = false
  if right[i] then
    local uh, ul = struct.unpack('>I4I4', held[i], 3)
    keep = (uh == 0 and ul == 0) or (age > 0 and uh * 4294967296 + ul >= deadline)
  end
  if not keep then
    hint = hint or ARGV[10] .. struct.pack('>I4I4', math.floor(until_ / 4294967296), until_ % 4294967296) .. primary
    if age > 0 then
      redis.call('SET', KEYS[3 + i], hint, 'PXAT', until_)
    else
      redis.call('SET', KEYS[3 + i], hint)
    end
  end
end
return {1, sequence}
