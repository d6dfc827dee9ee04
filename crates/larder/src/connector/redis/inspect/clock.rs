//! Reads the clock of a cache without a script, so that looking changes nothing.

use crate::connector::redis::inspect::followers::{self, Followers};
use crate::connector::redis::inspect::server::Server;
use crate::connector::redis::inspect::{InspectError, InspectedCache};
use crate::connector::redis::layout::Layout;
use crate::connector::redis::single::waiting::ENTRY;
use crate::connector::redis::wire::replies::bytes;
use crate::connector::remote::{Trouble, What};
use redis::{Pipeline, RedisError, Value};

/// The part of a clock before its log that says something: epoch, sequence, state, history, and sixteen fingerprints.
const HEAD: usize = 304;

/// A whole clock, in bytes: 512, and a log of 16,384 marks.
const WHOLE: usize = 512 + 8 * 16_384;

/// The scripts compute with doubles, which are exact up to here.
const EXACT: u64 = 1 << 53;

/// What the clock of a cache says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The epoch. It is renewed by each truncate, and when the clock was lost.
    pub epoch: u64,
    /// How many marks were ever written into the log.
    pub sequence: u64,
    /// Whether the cache is in use.
    pub state: ClockState,
    /// Whether the clock belongs to the present history of the server's data. If it does not, the next service that connects clears
    /// the cache. `None`: the server does not tell its history.
    pub of_this_history: Option<bool>,
    /// The fingerprints of the schemas of all releases that have used the cache.
    pub fingerprints: Vec<u64>,
    /// The nodes that keep the cache in their own memory. `None`: no node does.
    pub followers: Option<Followers>,
}

impl ClockReading {
    /// How many marks the log holds. A fill whose ticket is older than all of them is refused without a look at its keys.
    pub const LOG: u64 = 16_384;
}

/// Whether a cache is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockState {
    /// The cache is in use.
    Settled,
    /// A service or an operator is removing everything in the cache.
    Clearing,
    /// The clock was lost and made anew. Nothing can be invalidated until everything in the cache is removed.
    Lost,
}

impl ClockState {
    /// The state in one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Clearing => "clearing",
            Self::Lost => "lost",
        }
    }
}

impl InspectedCache {
    /// Reads the clock. `None`: there is no clock.
    ///
    /// # Errors
    ///
    /// [`InspectError::ForeignClock`], [`InspectError::DamagedClock`], [`InspectError::ForbiddenClock`], [`InspectError::Server`].
    pub async fn clock(&self) -> Result<Option<ClockReading>, InspectError> {
        self.server.clock(&self.name, &self.layout).await
    }
}

impl Server {
    pub(super) async fn clock(&self, cache: &str, layout: &Layout) -> Result<Option<ClockReading>, InspectError> {
        let key = layout.clock();
        let mut both = Pipeline::with_capacity(2);
        both.cmd("GETRANGE").arg(&key).arg(0).arg(HEAD - 1);
        // The last eight bytes of the log, and the followers behind it.
        both.cmd("GETRANGE").arg(&key).arg(WHOLE - 8).arg(-1);
        let replies = self.pipeline(&both).await?;
        let mut parts = Vec::with_capacity(2);
        for reply in replies {
            match reply {
                Value::ServerError(error) => match Trouble::from(RedisError::from(error)) {
                    trouble if trouble.what() == Some(What::WrongType) => {
                        let what = self.type_of(&key).await?;
                        return Err(InspectError::ForeignClock { cache: cache.to_owned(), key, what });
                    }
                    trouble if matches!(trouble.what(), Some(What::Refused | What::Forbidden)) => {
                        let reason = trouble.to_string();
                        return Err(InspectError::ForbiddenClock { cache: cache.to_owned(), key, reason });
                    }
                    trouble => return Err(self.error(&trouble)),
                },
                reply => parts.push(bytes(reply).unwrap_or_default()),
            }
        }
        let [head, end] = &parts[..] else { return Ok(None) };
        read(head, end, self.history()).map_err(|reason| InspectError::DamagedClock {
            cache: cache.to_owned(),
            key,
            reason: reason.to_owned(),
        })
    }

    /// The type of a key that is no string, in words. The user may lack the right to ask for it.
    async fn type_of(&self, key: &str) -> Result<String, InspectError> {
        let mut ask = redis::cmd("TYPE");
        let told = self.tolerated(ask.arg(key)).await?;
        let named = told.and_then(bytes).and_then(|name| String::from_utf8(name).ok());
        Ok(named
            .map_or_else(|| "a key of another Redis type".to_owned(), |name| format!("a key of the Redis type {name}")))
    }
}

/// What a clock says. `end` has the last mark of its log, and behind it the table of followers.
fn read(head: &[u8], end: &[u8], history: u64) -> Result<Option<ClockReading>, &'static str> {
    if head.is_empty() {
        return Ok(None);
    }
    let Some(table) = end.get(8..).filter(|table| table.len().is_multiple_of(ENTRY)) else {
        return Err("it has not the length of a clock");
    };
    let word = |place: usize| {
        head.get(8 * place..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
    };
    let (epoch, sequence, state, of) = (word(0), word(1), word(2), word(5));
    // What makes and what removes a clock does so in one script: there is no clock without an epoch.
    if !(1..EXACT).contains(&epoch) || sequence >= EXACT {
        return Err("its epoch or its sequence is out of range");
    }
    let state = match state {
        1 => ClockState::Settled,
        2 => ClockState::Clearing,
        3 => ClockState::Lost,
        _ => return Err("its state is none that there is"),
    };
    let schemas =
        head.get(48..HEAD).unwrap_or_default().chunks_exact(16).take_while(|digits| digits.first() != Some(&0));
    let fingerprints: Option<Vec<u64>> =
        schemas.map(|digits| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()).collect();
    Ok(Some(ClockReading {
        epoch,
        sequence,
        state,
        of_this_history: (history != 0).then_some(of == history),
        fingerprints: fingerprints.ok_or("its list of releases cannot be read")?,
        followers: followers::read(epoch, sequence, table),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last mark of a log, and nobody behind it.
    const END: &[u8] = &[0; 8];

    fn head() -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[7] = 5;
        head[15] = 9;
        head[23] = 1;
        head[47] = 3;
        head[48..64].copy_from_slice(b"00000000000000ab");
        head[64..80].copy_from_slice(b"ffffffffffffffff");
        head
    }

    #[test]
    fn a_clock_is_read_without_a_script() {
        let mut head = head();
        let clock = read(&head, END, 3).unwrap().unwrap();
        assert_eq!((clock.epoch, clock.sequence, clock.state), (5, 9, ClockState::Settled));
        assert_eq!((clock.of_this_history, clock.fingerprints), (Some(true), vec![0xab, u64::MAX]));
        assert_eq!(read(&head, END, 4).unwrap().unwrap().of_this_history, Some(false));
        assert_eq!(read(&head, END, 0).unwrap().unwrap().of_this_history, None);
        head[23] = 3;
        assert_eq!(read(&head, END, 3).unwrap().unwrap().state, ClockState::Lost);
        assert_eq!(read(&[], &[], 3), Ok(None));
    }

    #[test]
    fn what_is_no_clock_is_damaged() {
        for (at, byte) in [(7, 0), (0, 0x80), (8, 0x80), (23, 0), (23, 4), (56, b'x'), (66, 0xff)] {
            let mut damaged = head();
            damaged[at] = byte;
            assert!(read(&damaged, END, 3).is_err(), "byte {at} is {byte}");
        }
        assert!(read(&head(), &[], 3).is_err() && read(&head(), &[0; 9], 3).is_err(), "too short, too long");
        assert!(read(b"somebody else's", &[], 3).is_err());
    }
}
