#!lua
-- Stores an object under all of its keys: a fill or a put.
--
-- KEYS  1 clock  2 object  3 floor of the object's version  4 staged payload, or the clock again  5.. index keys
-- ARGV  1 'fill' | 'put'
--       2 epoch of the ticket  3 sequence of the ticket
--       4 payload; empty: it waits under KEYS[4]
--       5 lifetime of the object in ms, 0 = none  6 lifetime of the index keys (max age) in ms, 0 = none
--       7 '1': write the deadline by max age into the object
--       8 version, 8 bytes big-endian, or empty
--       9 prefix of object keys, to which schema:primary is added
--      10 the hint that belongs into the index keys: slot of the primary key (2 bytes, big-endian) and the primary key
--      11 one entry per index key: position of its index (1 byte), length of what stands before the key itself (2 bytes)
--      12.. fence slots: of the primary key, then of each index key
-- Reply {outcome, sequence}; outcome 1 stored, 2 overtaken, 3 outdated, 4 the clock is lost
-- Cost  measured in docs: one EVALSHA, BITFIELD, MGET, SET and one SET per index key; a put adds two BITFIELDs
local clock, object, put = KEYS[1], KEYS[2], ARGV[1] == 'put'
local hint = ARGV[10]

local look = {'BITFIELD', clock, 'GET', 'i64', '#0', 'GET', 'i64', '#2', 'GET', 'i64', '#1'}
for i = 12, #ARGV do
  look[#look + 1] = 'GET'
  look[#look + 1] = 'i64'
  look[#look + 1] = ARGV[i]
end
local seen = redis.call(unpack(look))
if seen[1] == 0 or seen[2] == 3 then
  if KEYS[4] ~= clock then redis.call('UNLINK', KEYS[4]) end
  return {4, 0}
end

local sequence = seen[3]
local stamped = false
local function stamp()
  if not stamped then
    sequence = redis.call('BITFIELD', clock, 'INCRBY', 'i64', '#1', 1)[1]
    stamped = true
  end
  return sequence
end

local function fence(slot)
  redis.call('BITFIELD', clock, 'SET', 'i64', slot, stamp())
end

local function schemas()
  local found, text = {}, redis.call('GETRANGE', clock, 32, 287)
  for at = 1, 241, 16 do
    if string.byte(text, at) == 0 then break end
    found[#found + 1] = string.sub(text, at, at + 15)
  end
  return found
end

local function forget(primary)
  for _, schema in ipairs(schemas()) do redis.call('UNLINK', ARGV[9] .. schema .. ':' .. primary) end
end

-- Whether a stored object lists this key; in doubt yes.
local function lists(name, item)
  local head = redis.pcall('GETRANGE', name, 36, 41)
  if type(head) ~= 'string' or #head < 6 then return head ~= '' end
  local length, count = struct.unpack('>I4I2', head)
  return string.find(redis.call('GETRANGE', name, 42 + count, 41 + count + length), item, 1, true) ~= nil
end

local overtaken = seen[1] ~= tonumber(ARGV[2])
local ticket = tonumber(ARGV[3])
for i = 4, #seen do
  if seen[i] > ticket then overtaken = true end
end

-- 2^53 and more would lose digits in one number.
local function older(a, b)
  local ah, al = struct.unpack('>I4I4', a)
  local bh, bl = struct.unpack('>I4I4', b)
  return ah < bh or (ah == bh and al < bl)
end

local outdated = false
if ARGV[8] ~= '' then
  local floor = redis.pcall('GET', KEYS[3])
  if type(floor) == 'string' and #floor == 8 and older(ARGV[8], floor) then outdated = true end
  local head = redis.pcall('GETRANGE', object, 0, 19)
  if type(head) == 'string' and #head == 20 and string.sub(head, 1, 2) == 'L1' and string.byte(head, 4) == 1
    and older(ARGV[8], string.sub(head, 13, 20)) then outdated = true end
end

if KEYS[4] ~= clock and redis.call('EXISTS', KEYS[4]) == 0 then overtaken = true end

if (overtaken or outdated) and not put then
  if KEYS[4] ~= clock then redis.call('UNLINK', KEYS[4]) end
  return {overtaken and 2 or 3, sequence}
end
-- C2: whoever else holds one of the keys is invalidated.
local held = {}
if #KEYS > 4 and (overtaken or not outdated) then
  -- MGET answers nil for a key of another type.
  held = redis.call('MGET', unpack(KEYS, 5))
  for i = 1, #held do
    if held[i] and held[i] ~= hint and #held[i] > 2 then
      local other = string.sub(held[i], 3)
      local position, before = struct.unpack('>BI2', string.sub(ARGV[11], 3 * i - 2, 3 * i))
      local key = string.sub(KEYS[4 + i], before + 1)
      local item = struct.pack('>BI4', position, #key) .. key
      local holds = overtaken
      for _, schema in ipairs(schemas()) do
        if holds then break end
        holds = lists(ARGV[9] .. schema .. ':' .. other, item)
      end
      if holds then
        forget(other)
        fence('#' .. (64 + struct.unpack('>I2', held[i])))
      end
    end
  end
end

if put then
  local fences = {'BITFIELD', clock}
  stamp()
  for i = 12, #ARGV do
    fences[#fences + 1] = 'SET'
    fences[#fences + 1] = 'i64'
    fences[#fences + 1] = ARGV[i]
    fences[#fences + 1] = sequence
  end
  redis.call(unpack(fences))
  -- Objects of other releases hold an earlier state.
  local mine = string.sub(object, #ARGV[9] + 1, #ARGV[9] + 16)
  local primary = string.sub(hint, 3)
  for _, schema in ipairs(schemas()) do
    if overtaken or schema ~= mine then redis.call('UNLINK', ARGV[9] .. schema .. ':' .. primary) end
  end
  if overtaken or outdated then
    if KEYS[4] ~= clock then redis.call('UNLINK', KEYS[4]) end
    return {overtaken and 2 or 3, sequence}
  end
end

local life, age = tonumber(ARGV[5]), tonumber(ARGV[6])
if KEYS[4] ~= clock then
  redis.call('RENAME', KEYS[4], object)
  if life > 0 then redis.call('PEXPIRE', object, life) else redis.call('PERSIST', object) end
elseif life > 0 then
  redis.call('SET', object, ARGV[4], 'PX', life)
else
  redis.call('SET', object, ARGV[4])
end
if ARGV[7] == '1' then
  local time = redis.call('TIME')
  local deadline = time[1] * 1000 + math.floor(time[2] / 1000) + age
  redis.call('SETRANGE', object, 20, struct.pack('>I4I4', math.floor(deadline / 4294967296), deadline % 4294967296))
end
for i = 5, #KEYS do
  -- An index key lives as long as any release's object that it leads to: a lifetime is never shortened.
  if age == 0 then
    redis.call('SET', KEYS[i], hint)
  elseif held[i - 4] == hint then
    redis.call('PEXPIRE', KEYS[i], age, 'GT')
  else
    redis.call('SET', KEYS[i], hint, 'PX', age)
  end
end
return {1, sequence}
