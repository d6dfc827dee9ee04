//! Reads as bytes. There are tens of thousands per second. So each takes about fifty bytes, and is written and read without the names of
//! fields.
//!
//! ```text
//!   1  bits: 0 the kind, 1-2 the index, 3-5 the call, 6 whether there was an object
//!   4  number of the key      8  begun      8  ended
//!   if there was an object:
//!   4  its number      8  its change      8  digest of its hosts      8  born      4  by which node
//! ```

use super::{Answer, Read, Through};
use crate::objects::{By, Key, Kind};

const ANSWERED: u8 = 1 << 6;

/// Reads, packed one after the other.
#[derive(Debug, Default)]
pub(crate) struct PackedReads {
    pub(super) bytes: Vec<u8>,
    count: usize,
}

impl PackedReads {
    pub(super) fn received(bytes: Vec<u8>) -> Self {
        Self { bytes, count: 0 }
    }

    /// How many reads were pushed. Reads that were received do not count.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn push(&mut self, read: &Read) {
        let Read { key, begun, ended, through, answer } = read;
        let kind = u8::from(key.kind == Kind::Policy);
        let by = match key.by {
            By::Id => 0,
            By::Serial => 1,
            By::Host => 2,
        };
        let answered = if answer.is_some() { ANSWERED } else { 0 };
        self.count += 1;
        self.bytes.push(kind | by << 1 | through.code() << 3 | answered);
        self.bytes.extend(key.number.to_le_bytes());
        self.bytes.extend(begun.to_le_bytes());
        self.bytes.extend(ended.to_le_bytes());
        if let Some(Answer { number, sequence, hosts, born, by }) = answer {
            self.bytes.extend(number.to_le_bytes());
            self.bytes.extend(sequence.to_le_bytes());
            self.bytes.extend(hosts.to_le_bytes());
            self.bytes.extend(born.to_le_bytes());
            self.bytes.extend(by.to_le_bytes());
        }
    }

    /// The reads. Bytes that are not a read end the iteration.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Read> + '_ {
        let mut left = Left(&self.bytes);
        std::iter::from_fn(move || left.read())
    }
}

impl super::Through {
    const ALL: [Self; 5] = [Self::Get, Self::Lookup, Self::GetMany, Self::GetOrLoad, Self::LoadMany];

    fn code(self) -> u8 {
        self as u8
    }
}

/// The bytes that are left.
struct Left<'a>(&'a [u8]);

impl Left<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn read(&mut self) -> Option<Read> {
        let [bits] = self.take()?;
        let kind = if bits & 1 == 0 { Kind::Instance } else { Kind::Policy };
        let by = [By::Id, By::Serial, By::Host].get(usize::from(bits >> 1 & 3)).copied()?;
        let through = Through::ALL.get(usize::from(bits >> 3 & 7)).copied()?;
        let key = Key { kind, by, number: self.u32()? };
        let (begun, ended) = (self.u64()?, self.u64()?);
        let answer = if bits & ANSWERED == 0 {
            None
        } else {
            let (number, sequence, hosts) = (self.u32()?, self.u64()?, self.u64()?);
            Some(Answer { number, sequence, hosts, born: self.u64()?, by: self.u32()? })
        };
        Some(Read { key, begun, ended, through, answer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked() {
        let answer = Answer { number: u32::MAX, sequence: 1 << 40, hosts: u64::MAX, born: 7, by: 3 };
        let mut reads = Vec::new();
        for key in [Key::id(Kind::Instance, 1), Key::serial(Kind::Policy, u32::MAX), Key::host(70_000)] {
            for through in Through::ALL {
                for answer in [None, Some(answer)] {
                    reads.push(Read { key, begun: 1 << 50, ended: u64::MAX, through, answer });
                }
            }
        }
        let mut packed = PackedReads::default();
        reads.iter().for_each(|read| packed.push(read));
        assert_eq!(packed.count(), reads.len());
        assert_eq!(packed.iter().collect::<Vec<_>>(), reads);
        packed.bytes.pop();
        assert_eq!(packed.iter().count(), reads.len() - 1, "the last one is not whole");
    }
}
