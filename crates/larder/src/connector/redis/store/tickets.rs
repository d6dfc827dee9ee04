//! Tickets: what the clock says before a load or a write begins, and whether it can be believed.

use super::super::clearing::{self, bytes};
use super::super::trouble::Trouble;
use super::Store;
use crate::connector::Ticket;
use crate::protection::{Protection, holds};
use redis::{Cmd, Value as Reply};
use std::sync::atomic::Ordering;

/// A clock that another node has left unsettled for this long, in ms, is cleared by this one.
const UNSETTLED_LIMIT: u64 = 5_000;

impl Store {
    pub(super) fn read_clock(&self) -> Cmd {
        let mut command = redis::cmd("GETRANGE");
        command.arg(self.layout.clock()).arg(0).arg(23);
        command
    }

    pub(super) async fn take_ticket(&self) -> Option<Ticket> {
        self.ask_for_ticket().await.ok().flatten()
    }

    pub(super) async fn ask_for_ticket(&self) -> Result<Option<Ticket>, Trouble> {
        if self.may_read().is_err() {
            return Ok(None);
        }
        let newest = self.newest();
        let reply = self.link.call(&self.read_clock()).await?;
        Ok(self.ticket_from(reply, newest).await)
    }

    /// The ticket in the first 24 bytes of the clock: epoch, sequence, state. `newest` was seen before the clock was read.
    pub(super) async fn ticket_from(&self, clock: Reply, newest: Option<Ticket>) -> Option<Ticket> {
        let clock = bytes(clock)?;
        let number = |at: usize| clock.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let (Some(epoch @ 1..), Some(sequence), Some(state)) = (number(0), number(8), number(16)) else {
            self.lost("the server has lost the clock");
            return None;
        };
        let went_back = newest.is_some_and(|newest| newest.epoch == epoch && sequence < newest.sequence);
        if went_back && holds(Protection::History) {
            self.lost("the server's clock went back: its data has been replaced by older data");
            return None;
        }
        if state != 1 {
            let now = self.link.clock.now();
            let since = self.unsettled_since.load(Ordering::Relaxed);
            if since == 0 {
                self.unsettled_since.store(now, Ordering::Relaxed);
            } else if now >= since.saturating_add(UNSETTLED_LIMIT) {
                self.unsettled_since.store(0, Ordering::Relaxed);
                self.lost("another node began to clear the cache and did not end");
            }
            return None;
        }
        self.unsettled_since.store(0, Ordering::Relaxed);
        if self.registered.load(Ordering::Acquire) != epoch {
            let head = clearing::register(&*self.link, &self.layout).await.ok()?;
            if !head.registered {
                self.lost("the list of releases is full");
                return None;
            }
            if head.epoch != epoch {
                return None;
            }
            self.registered(epoch);
        }
        let ticket = Ticket { epoch, sequence };
        self.saw(ticket);
        Some(ticket)
    }
}
