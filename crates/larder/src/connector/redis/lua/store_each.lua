-- The end of store_many.lua.
end

local clock, ticket, kept, part, index_life = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local record = part ~= '0' and KEYS[2]
local head = redis.call('GETRANGE', clock, '0', '23')
-- others: the marks that others have written since the ticket, as far as the sequence known; nil: they cannot be known.
local known, others = string.sub(ticket, 9, 16), ''
if part == '2' or part == '3' then
  local left = redis.pcall('GET', record)
  if type(left) == 'string' and #left >= 8 then
    known, others = string.sub(left, 1, 8), string.sub(left, 9)
  else
    others = nil
  end
end
if #head < 24 or string.sub(head, 1, 8) ~= string.sub(ticket, 1, 8) or string.sub(head, 17) ~= string.sub(ticket, 17) then
  others = nil
end
if others and string.sub(head, 9, 16) ~= known then
  local sh, sl = struct.unpack('>I4I4', head, 9)
  local kh, kl = struct.unpack('>I4I4', known)
  local from, since = (kh * 4294967296 + kl) % 16384, (sh - kh) * 4294967296 + sl - kl
  if since < 0 or #others + 8 * since > 131072 then
    others = nil
  elseif from + since <= 16384 then
    others = others .. redis.call('GETRANGE', clock, 512 + 8 * from, 511 + 8 * (from + since))
  else
    others = others .. redis.call('GETRANGE', clock, 512 + 8 * from, '131583')
      .. redis.call('GETRANGE', clock, '512', 511 + 8 * (from + since - 16384))
  end
end

-- An object with a ticket of epoch 0 is always overtaken.
local none = string.rep('\0', 24)
local replies, first = {}, record and 3 or 2
for i = 5, #ARGV, 3 do
  local header, payload = ARGV[i], ARGV[i + 1]
  local last = first + (#header - 43) / 8
  if string.byte(header, 2) == 1 then last = last + 1 end
  if payload == '' then last = last + 1 end
  local current = others ~= nil and #payload ~= 1
  for at = 36, current and others ~= '' and #header - 7 or 0, 8 do
    if string.find(others, string.sub(header, at, at + 7), 1, true) then current = false end -- protection: fence
  end
  local reply = store({clock, unpack(KEYS, first, last)}, {current and head or none, header, payload, ARGV[i + 2], index_life, kept})
  -- The script is atomic, so only this object has touched anything: the next object gets the new clock as its ticket.
  if string.sub(reply, 2, 9) == string.sub(head, 1, 8) then head = string.sub(reply, 2) .. string.sub(head, 17) end
  replies[#replies + 1] = reply
  first = last + 1
end

if part == '3' then
  redis.call('UNLINK', record)
elseif record and others then
  redis.call('SET', record, string.sub(head, 9, 16) .. others, 'PX', '60000')
end
return table.concat(replies)
