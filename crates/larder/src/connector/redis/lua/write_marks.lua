-- The end of every script that touches keys: writes the marks of these keys into the log of the clock. A mark is the fence of its key.
--
-- The log is a ring of 16,384 marks of 8 bytes, from byte 512 of the clock on; the sequence counts all marks ever written, so that it
-- says where the next one goes. A fill with a ticket looks for the marks of its keys among those written since.
--
-- After the sequence and the state stand the connection that wrote last (8 bytes; 0: one that does not say), and the sequence since which no
-- other connection has written (8). They are written when another connection writes.
--
-- Where the epoch says that nodes follow the cache (follow.lua), a message tells them the marks: the epoch, the sequence before the marks, 8 bytes each, and
-- the marks. If there are many, it is empty. It comes last, and its error is ignored: followers find the marks by themselves a little later.
--
-- Uses  clock, outcome, head: what the clock begins with, 24 bytes or more, touched: the marks, in one string, writer: the connection
-- Cost  two SETRANGEs, three once in a turn of the ring; none if nothing was touched. Followed: one SPUBLISH
local at
if touched == '' then
  at = string.sub(head, 9, 16)
else
  local high, low = struct.unpack('>I4I4', head, 9)
  local sequence = high * 4294967296 + low
  local place = sequence % 16384
  local room = 8 * (16384 - place)
  if #touched <= room then
    redis.call('SETRANGE', clock, 512 + 8 * place, touched)
  else
    redis.call('SETRANGE', clock, 512 + 8 * place, string.sub(touched, 1, room))
    redis.call('SETRANGE', clock, '512', string.sub(touched, room + 1))
  end
  sequence = sequence + #touched / 8
  at = struct.pack('>I4I4', math.floor(sequence / 4294967296), sequence % 4294967296)
  if string.sub(head, 25, 32) == writer then
    redis.call('SETRANGE', clock, '8', at)
  else
    redis.call('SETRANGE', clock, '8', at .. string.sub(head, 17, 24) .. writer .. string.sub(head, 9, 16))
  end
  if string.byte(head, 2) >= 8 then
    redis.pcall('SPUBLISH', clock, #touched <= 512 and string.sub(head, 1, 16) .. touched or '')
  end
end
return string.char(outcome) .. string.sub(head, 1, 8) .. at
