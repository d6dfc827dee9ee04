-- The end of every script that touches keys: writes their marks into the log of the clock, which is their fence.
--
-- The log is a ring of 16,384 marks of 8 bytes, from byte 512 of the clock on; the sequence counts all marks ever written, so that it
-- says where the next one goes. A fill with a ticket looks for the marks of its keys among those written since.
--
-- Uses  clock, outcome, eh and el: the epoch, sh, sl and sequence, touched: the marks, in one string
-- Cost  two SETRANGEs, once in a turn of the ring three; none where nothing was touched
if touched ~= '' then
  local at = sequence % 16384
  local room = 8 * (16384 - at)
  if #touched <= room then
    redis.call('SETRANGE', clock, 512 + 8 * at, touched)
  else
    redis.call('SETRANGE', clock, 512 + 8 * at, string.sub(touched, 1, room))
    redis.call('SETRANGE', clock, '512', string.sub(touched, room + 1))
  end
  sequence = sequence + #touched / 8
  sh, sl = math.floor(sequence / 4294967296), sequence % 4294967296
  redis.call('SETRANGE', clock, '8', struct.pack('>I4I4', sh, sl))
end
return struct.pack('>BI4I4I4I4', outcome, eh, el, sh, sl)
