-- The end of every script that touches keys: writes their marks into the log of the clock, which is their fence.
--
-- The log is a ring of 16,384 marks of 8 bytes, from byte 512 of the clock on; the sequence counts all marks ever written, so that it
-- says where the next one goes. A fill with a ticket looks for the marks of its keys among those written since.
--
-- Uses  clock, outcome, epoch, sequence, touched: the marks, in one string
-- Cost  two SETRANGEs, once in a turn of the ring three; none where nothing was touched
if touched ~= '' then
  local at, room = sequence % 16384, 8 * (16384 - sequence % 16384)
  redis.call('SETRANGE', clock, 512 + 8 * at, string.sub(touched, 1, room))
  if #touched > room then redis.call('SETRANGE', clock, 512, string.sub(touched, room + 1)) end
  sequence = sequence + #touched / 8
  redis.call('SETRANGE', clock, 8, struct.pack('>I4I4', math.floor(sequence / 4294967296), sequence % 4294967296))
end
return {outcome, sequence, epoch}
