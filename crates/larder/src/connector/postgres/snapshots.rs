//! [`Snapshots`]: what the tickets of this node stand for.
//!
//! A ticket of larder is two numbers, and a ticket in the database is an epoch, a generation and a snapshot. The snapshot is kept here under a number
//! that has the order of time: snapshots of one primary only grow at their upper end, and while that stays the same, transactions only leave the list of those
//! that run. So no two snapshots share a number.

use crate::contract::Ticket;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How many are kept. A fill whose snapshot has fallen out is refused, as one that was overtaken.
const KEPT: usize = 1 << 16;

/// A ticket as the database takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) generation: i32,
    /// As text: `xmin:xmax:xip`.
    pub(crate) snapshot: Arc<str>,
}

/// The latest snapshots that this node was told of.
#[derive(Default)]
pub(crate) struct Snapshots(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    taken: BTreeMap<(u64, u64), Taken>,
    order: VecDeque<(u64, u64)>,
}

impl Snapshots {
    /// Keeps a snapshot, and answers the ticket that stands for it. `None`: this is no snapshot.
    pub(crate) fn keep(&self, epoch: i64, generation: i32, snapshot: &str) -> Option<Ticket> {
        let ticket = ticket(epoch, snapshot)?;
        let name = (ticket.epoch, ticket.sequence);
        let mut kept = self.0.lock();
        let taken = || Taken { generation, snapshot: snapshot.into() };
        let known = kept.taken.entry(name).or_insert_with(taken);
        // Of an older generation, where it was taken shortly before a turn: that one is refused earlier.
        if known.generation > generation {
            known.generation = generation;
        }
        if kept.order.back() != Some(&name) && kept.taken.len() > kept.order.len() {
            kept.order.push_back(name);
        }
        while kept.order.len() > KEPT {
            if let Some(oldest) = kept.order.pop_front() {
                kept.taken.remove(&oldest);
            }
        }
        Some(ticket)
    }

    /// What a ticket stands for; `None` where it is no longer known.
    ///
    /// Another node's ticket stands for what this node was told before it: that snapshot sees nothing which the ticket's does not see. Where no transaction
    /// was running, the number says the whole snapshot.
    pub(crate) fn of(&self, ticket: Ticket) -> Option<Taken> {
        let name = (ticket.epoch, ticket.sequence);
        let kept = self.0.lock();
        let (known, taken) = kept.taken.range((ticket.epoch, 0)..=name).next_back()?;
        if *known == name || running(ticket) > 0 {
            return Some(taken.clone());
        }
        let end = ticket.sequence >> 16;
        Some(Taken { generation: taken.generation, snapshot: format!("{end}:{end}:").into() })
    }
}

/// The ticket that stands for a snapshot.
pub(crate) fn ticket(epoch: i64, snapshot: &str) -> Option<Ticket> {
    let mut parts = snapshot.split(':');
    let (_, end, running) = (parts.next()?, parts.next()?.parse::<u64>().ok()?, parts.next()?);
    let running = if running.is_empty() { 0 } else { running.split(',').count() };
    let left = u64::from(u16::MAX).saturating_sub(running as u64);
    Some(Ticket { epoch: u64::try_from(epoch).ok()?, sequence: end.checked_shl(16)? | left })
}

/// How many transactions were running.
fn running(ticket: Ticket) -> u64 {
    u64::from(u16::MAX) - (ticket.sequence & u64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_have_the_order_of_their_snapshots() {
        let sequence = |snapshot| ticket(7, snapshot).unwrap().sequence;
        let in_order = ["100:100:", "100:103:100,101,102", "100:103:100,102", "102:103:102", "103:103:", "103:104:103"];
        assert!(in_order.windows(2).all(|two| sequence(two[0]) < sequence(two[1])));
    }

    #[test]
    fn another_nodes_ticket_sees_no_more_than_it_did() {
        let snapshots = Snapshots::default();
        let of = |snapshot| snapshots.of(ticket(7, snapshot).unwrap()).map(|taken| taken.snapshot.to_string());
        assert_eq!(of("105:105:"), None, "nothing is known");
        snapshots.keep(7, 3, "100:102:100,101").unwrap();
        assert_eq!(of("105:105:").as_deref(), Some("105:105:"));
        assert_eq!(of("103:105:103").as_deref(), Some("100:102:100,101"));
        assert_eq!(of("90:90:"), None);
        assert!(snapshots.of(ticket(8, "105:105:").unwrap()).is_none(), "of another epoch");
    }

    #[test]
    fn what_is_no_snapshot_gives_no_ticket() {
        assert!(["", "1", "1:2", "1:x:"].iter().all(|text| ticket(7, text).is_none()));
    }

    #[test]
    fn the_latest_are_kept() {
        let snapshots = Snapshots::default();
        let keep = |end: usize| snapshots.keep(7, 1, &format!("{end}:{end}:")).unwrap();
        let first = keep(1);
        assert_eq!(keep(1), first);
        (2..=KEPT).for_each(|end| assert!(keep(end) != first));
        assert_eq!(snapshots.of(first).unwrap().snapshot.as_ref(), "1:1:");
        let last = keep(KEPT + 1);
        assert!(snapshots.of(first).is_none() && snapshots.of(last).is_some());
    }
}
