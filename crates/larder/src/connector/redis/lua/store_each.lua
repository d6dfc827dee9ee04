-- The end of store_many.lua.
end

local clock, ticket, kept = KEYS[1], ARGV[1], ARGV[2]
local head = redis.call('GETRANGE', clock, '0', '23')
-- The log since the ticket; none where it cannot be known, which store.lua finds out itself.
local log
if head == ticket then
  log = ''
elseif #head == 24 and string.sub(head, 1, 8) == string.sub(ticket, 1, 8) and string.sub(head, 17) == string.sub(ticket, 17) then
  local sh, sl = struct.unpack('>I4I4', head, 9)
  local th, tl = struct.unpack('>I4I4', ticket, 9)
  local from, since = (th * 4294967296 + tl) % 16384, (sh - th) * 4294967296 + sl - tl
  if since > 0 and since <= 16384 then
    if from + since <= 16384 then
      log = redis.call('GETRANGE', clock, 512 + 8 * from, 511 + 8 * (from + since))
    else
      log = redis.call('GETRANGE', clock, 512 + 8 * from, '131583')
        .. redis.call('GETRANGE', clock, '512', 511 + 8 * (from + since - 16384))
    end
  end
end

local replies, first = {}, 2
for i = 3, #ARGV, 3 do
  local header, payload = ARGV[i], ARGV[i + 1]
  local last = first + (#header - 31) / 8
  if string.byte(header, 2) == 1 then last = last + 1 end
  if payload == '' then last = last + 1 end
  local current = log ~= nil and #payload ~= 1
  for at = 24, log ~= '' and current and #header - 7 or 0, 8 do
    if string.find(log, string.sub(header, at, at + 7), 1, true) then current = false end
  end
  -- A ticket of no epoch is always overtaken.
  local as_of = current and head or #payload == 1 and string.rep('\0', 24) or ticket
  local reply = store({clock, unpack(KEYS, first, last)}, {as_of, header, payload, ARGV[i + 2], kept})
  -- Nobody else has touched anything meanwhile.
  if string.sub(reply, 2, 9) == string.sub(head, 1, 8) then head = string.sub(reply, 2) .. string.sub(head, 17) end
  replies[#replies + 1] = reply
  first = last + 1
end
return table.concat(replies)
