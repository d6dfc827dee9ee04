//! [`Position`]: up to where the changes of a database are known.

use crate::connector::postgres::snapshots::ticket;
use crate::contract::Ticket;
use std::sync::Arc;

/// A snapshot of the database: which transactions had committed when it was taken.
///
/// Snapshots of one epoch are ordered in time, and a later one sees everything that an earlier one sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) epoch: i64,
    /// As the database writes it: `xmin:xmax:xip`.
    pub(super) snapshot: Arc<str>,
    /// The snapshot in the order of time.
    at: Ticket,
    /// All transactions below have ended.
    xmin: u64,
    /// No transaction from here on had begun.
    xmax: u64,
    /// Those between that were running, in order.
    running: Arc<[u64]>,
}

/// What stands before a position that is kept as bytes: the version of this form.
const FORM: &str = "1";

impl Position {
    /// `None`: this is no snapshot.
    pub(super) fn new(epoch: i64, snapshot: &str) -> Option<Self> {
        let at = ticket(epoch, snapshot)?;
        let mut parts = snapshot.split(':');
        let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let running = parts.next()?.split(',').filter(|xid| !xid.is_empty());
        let mut running: Vec<u64> = running.map(str::parse).collect::<Result<_, _>>().ok()?;
        running.sort_unstable();
        Some(Self { epoch, snapshot: snapshot.into(), at, xmin, xmax, running: running.into() })
    }

    /// Whether the transaction had committed, provided that it did not roll back.
    pub(super) fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }

    /// Whether everything that `other` sees is seen here, too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.at.sequence >= other.at.sequence
    }

    /// The later of two positions.
    pub(super) fn or_later(self, other: &Self) -> Self {
        if other.covers(&self) { other.clone() } else { self }
    }

    /// The position as the bytes of a place.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        format!("{FORM} {} {}", self.epoch, self.snapshot).into_bytes()
    }

    /// The position in the bytes of a place. `None`: they are damaged, or of a release that writes another form.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.split(' ');
        let (form, epoch, snapshot) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        if form == FORM && parts.next().is_none() { Self::new(epoch, snapshot) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(snapshot: &str) -> Position {
        Position::new(7, snapshot).unwrap()
    }

    #[test]
    fn sees_what_had_committed() {
        let position = at("100:105:100,103");
        let seen: Vec<u64> = (98..108).filter(|xid| position.sees(*xid)).collect();
        assert_eq!(seen, [98, 99, 101, 102, 104]);
    }

    #[test]
    fn a_later_snapshot_covers_an_earlier_one_of_its_epoch() {
        let (early, late) = (at("100:103:100,101"), at("101:103:101"));
        assert!(late.covers(&early) && !early.covers(&late) && early.covers(&early));
        assert!(!Position::new(8, "200:200:").unwrap().covers(&early));
        assert_eq!(early.clone().or_later(&late), late);
        assert_eq!(late.clone().or_later(&early), late);
    }

    #[test]
    fn is_read_as_it_was_written_and_nothing_else_is() {
        for position in [at("100:103:100,101"), at("100:100:")] {
            assert_eq!(Position::from_bytes(&position.to_bytes()), Some(position));
        }
        for damaged in ["", "1 7", "2 7 1:1:", "1 7 1:1: 1", "1 x 1:1:", "1 7 1:1", "1 7 1:2:x"] {
            assert_eq!(Position::from_bytes(damaged.as_bytes()), None, "{damaged}");
        }
    }
}
