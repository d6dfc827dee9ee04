//! Tickets: the clock before a load or a write begins, and whether it can be trusted.

use crate::connector::redis::single::{Store, clearing, milliseconds};
use crate::connector::redis::wire::replies::bytes;
use crate::connector::remote::{Channel, WhenCrowded};
use crate::connector::remote::{LOST, Trouble};
use crate::contract::{Following, KeyBuf, Ticket};
use crate::protection::{Protection, holds};
use redis::{Cmd, Value as Reply};
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// If another node leaves the clock unsettled for this long, in ms, and has nothing to wait for, this node clears the cache.
const UNSETTLED_LIMIT: u64 = 5_000;

impl Store {
    pub(crate) fn read_clock(&self) -> Cmd {
        let mut command = redis::cmd("GETRANGE");
        command.arg(self.local.layout.clock()).arg(0).arg(23);
        command
    }

    /// Whether the log of the clock has no mark of these keys since the ticket. This reads the whole clock, 128 KiB, in one piece. Only an
    /// auditor that has found a difference asks.
    pub(crate) async fn was_untouched(&self, keys: &[KeyBuf], since: Ticket) -> Option<bool> {
        let connection = self.trusted().filter(|_| self.may_read().is_ok())?;
        let mut read = redis::cmd("GET");
        read.arg(self.local.layout.clock());
        let clock = bytes(self.link.call(WhenCrowded::Shed, &read).await.ok()?)?;
        if self.trusted() != Some(connection) {
            return None;
        }
        let marks: Vec<_> = keys.iter().map(|key| self.local.layout.mark(key.as_ref())).collect();
        untouched(&clock, &marks, since)
    }

    pub(crate) async fn take_ticket(&self, when_crowded: WhenCrowded) -> Option<Ticket> {
        self.ask_for_ticket(when_crowded).await.ok().flatten()
    }

    pub(crate) async fn ask_for_ticket(&self, when_crowded: WhenCrowded) -> Result<Option<Ticket>, Trouble> {
        if self.may_read().is_err() {
            return Ok(None);
        }
        let newest = self.newest();
        let reply = self.link.call(when_crowded, &self.read_clock()).await?;
        Ok(self.ticket_from(reply, newest).await)
    }

    /// The command by which the heartbeat takes a new ticket, and the newest ticket so far, which [`ticket_from`](Self::ticket_from) needs.
    /// `None`: this node sets nothing or may not read the cache, or another reply has brought a ticket lately.
    pub(crate) fn ask_clock(&self) -> Option<(Cmd, Option<Ticket>)> {
        let saw_lately = self.saw_lately();
        let asks = self.local.sets.load(Ordering::Relaxed) && !saw_lately && self.may_read().is_ok();
        asks.then(|| (self.read_clock(), self.newest()))
    }

    /// The ticket in the first 24 bytes of the clock: epoch, sequence, state. `newest` is the newest ticket from before the clock was read.
    pub(crate) async fn ticket_from(&self, clock: Reply, newest: Option<Ticket>) -> Option<Ticket> {
        let clock = match clock.extract_error() {
            Ok(clock) => bytes(clock)?,
            Err(error) => {
                self.miss(&error.into());
                return None;
            }
        };
        let number = |at: usize| clock.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let (Some(epoch @ 1..), Some(sequence), Some(state)) = (number(0), number(8), number(16)) else {
            self.lost(LOST);
            return None;
        };
        let went_back = newest.is_some_and(|newest| newest.epoch == epoch && sequence < newest.sequence);
        if went_back && holds(Protection::History) {
            self.lost("the server's clock went back: its data has been replaced by older data");
            return None;
        }
        if state != 1 {
            let now = self.link.clock().now();
            let waits_for = Following::of(epoch).map_or(0, |now| milliseconds(now.until_over()));
            let since = self.local.unsettled_since.load(Ordering::Relaxed);
            if since == 0 {
                self.local.unsettled_since.store(now, Ordering::Relaxed);
            } else if now >= since.saturating_add(UNSETTLED_LIMIT + waits_for) {
                self.local.unsettled_since.store(0, Ordering::Relaxed);
                self.lost("another node began to clear the cache and did not finish");
            }
            return None;
        }
        self.local.unsettled_since.store(0, Ordering::Relaxed);
        if !self.is_registered(epoch) {
            let head = clearing::register(&Channel::Shared(&*self.link), &self.local.layout).await.ok()?;
            if !head.registered {
                self.lost("the list of releases is full");
                return None;
            }
            if head.epoch != epoch {
                return None;
            }
            self.trust.registered(epoch);
        }
        let ticket = Ticket { epoch, sequence };
        self.saw(ticket);
        Some(ticket)
    }
}

/// The log that write_marks.lua writes: a ring of this many marks, from byte [`LOG`] of the clock on.
const RING: u64 = 16_384;
const LOG: usize = 512;

fn untouched(clock: &[u8], marks: &[[u8; 8]], since: Ticket) -> Option<bool> {
    let number = |at: usize| clock.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    let (epoch, sequence) = (number(0)?, number(8)?);
    let written = sequence.checked_sub(since.sequence)?;
    let marks: HashSet<&[u8; 8]> = marks.iter().collect();
    if epoch != since.epoch || written > RING {
        return Some(false);
    }
    for at in since.sequence..sequence {
        let place = LOG + 8 * usize::try_from(at % RING).ok()?;
        let mark: &[u8; 8] = clock.get(place..)?.first_chunk()?;
        if marks.contains(mark) {
            return Some(false);
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock whose log holds these marks before `sequence`.
    fn clock(sequence: u64, last: &[u64]) -> Vec<u8> {
        let mut clock = vec![0; LOG + 8 * RING as usize];
        clock[..8].copy_from_slice(&7_u64.to_be_bytes());
        clock[8..16].copy_from_slice(&sequence.to_be_bytes());
        for (back, mark) in last.iter().rev().enumerate() {
            let place = LOG + 8 * ((sequence - 1 - back as u64) % RING) as usize;
            clock[place..place + 8].copy_from_slice(&mark.to_be_bytes());
        }
        clock
    }

    #[test]
    fn a_key_was_touched_if_its_mark_was_written_since_the_ticket() {
        let at = |sequence| Ticket { epoch: 7, sequence };
        let mark = |mark: u64| [mark.to_be_bytes()];
        for sequence in [100, RING + 1, 5 * RING] {
            let clock = clock(sequence, &[11, 12, 13]);
            assert_eq!(untouched(&clock, &mark(11), at(sequence - 3)), Some(false), "{sequence}");
            assert_eq!(untouched(&clock, &mark(11), at(sequence - 2)), Some(true));
            assert_eq!(untouched(&clock, &mark(13), at(sequence - 1)), Some(false));
            assert_eq!(untouched(&clock, &mark(13), at(sequence)), Some(true));
            assert_eq!(untouched(&clock, &mark(14), at(sequence - 3)), Some(true));
            assert_eq!(untouched(&clock, &mark(13), Ticket { epoch: 8, sequence }), Some(false), "emptied");
            assert_eq!(untouched(&clock, &mark(13), at(sequence + 1)), None, "older data");
        }
        let clock = clock(2 * RING, &[]);
        assert_eq!(untouched(&clock, &mark(1), at(RING - 1)), Some(false), "it may have been overwritten");
        assert_eq!(untouched(&clock[..100], &mark(1), at(RING)), None);
    }
}
