//! The database: transactions, snapshots, and the tables of the feed.

use crate::protections::{Removable, Removed};
use crate::source::{Keys, OBJECTS, Object};

/// A set of writers, by their places in the scene.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Writers(u8);

impl Writers {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn has(self, writer: usize) -> bool {
        self.0 & 1 << writer != 0
    }

    pub(super) fn add(&mut self, writer: usize) {
        self.0 |= 1 << writer;
    }

    pub(super) fn remove(&mut self, writer: usize) {
        self.0 &= !(1 << writer);
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn each(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |writer| self.has(*writer))
    }
}

/// How a writer ends its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    /// Durable once it is visible.
    Durable,
    /// With `synchronous_commit = off`: visible before it is durable, so a crash may lose it.
    Asynchronous,
    /// Prepared first; a crash does not end it then.
    Prepared,
}

/// One transaction, which changes these objects and tells the feed their keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer {
    pub(crate) keys: Keys,
    pub(crate) commit: Commit,
    /// Whether the change is made through the cache of the first node, in front of the database.
    pub(crate) through: bool,
}

/// Where a writer is. Ages are in ticks, and count no further than the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Transaction {
    Waiting,
    Running {
        number: u8,
    },
    Prepared {
        number: u8,
    },
    Committed {
        number: u8,
        age: u8,
    },
    RolledBack,
    /// It was committed, and a crash has lost it.
    Lost {
        age: u8,
    },
}

/// A snapshot: it sees the numbers below `end` that were not running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Snapshot {
    pub(super) end: u8,
    running: u8,
}

impl Snapshot {
    fn sees(self, number: u8) -> bool {
        number < self.end && self.running & 1 << number == 0
    }

    /// Whether this snapshot sees all that the other one sees: the order that `snapshots.rs` gives them.
    pub(super) fn is_as_new_as(self, other: Self) -> bool {
        (self.end, !self.running.count_ones()) >= (other.end, !other.running.count_ones())
    }
}

/// Up to where changes are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) epoch: u8,
    pub(super) snapshot: Snapshot,
}

/// The row of `larder.clock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Clock {
    epoch: u8,
    trimmed: Snapshot,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Database {
    pub(super) transactions: Vec<Transaction>,
    next: u8,
    /// Commits that a crash does not lose.
    durable: Writers,
    crashes: u8,
    clock: Option<Clock>,
    /// Writers whose rows in `larder.changes` are removed.
    removed: Writers,
    /// What `larder.moments` holds, in the order of time.
    pub(super) moments: Vec<Snapshot>,
    /// Without `trim-in-one`: rows are removed, and this is not said yet.
    pub(super) unsaid: Option<Snapshot>,
}

impl Database {
    pub(super) fn new(writers: usize) -> Self {
        Self {
            transactions: vec![Transaction::Waiting; writers],
            next: 0,
            durable: Writers::NONE,
            crashes: 0,
            clock: Some(Clock { epoch: 0, trimmed: Snapshot::default() }),
            removed: Writers::NONE,
            moments: Vec::new(),
            unsaid: None,
        }
    }

    fn each(&self) -> impl Iterator<Item = (usize, Transaction)> {
        self.transactions.iter().copied().enumerate()
    }

    /// What a statement that begins now sees.
    pub(super) fn snapshot(&self, removed: Removed) -> Snapshot {
        let (mut end, mut running) = (0, 0);
        // As PostgreSQL does: the end is after the last number that is over.
        for number in 0..self.next {
            let is_running = self.each().any(|(_, transaction)| match transaction {
                Transaction::Running { number: other } | Transaction::Prepared { number: other } => other == number,
                _ => false,
            });
            if is_running { running |= 1 << number } else { end = number + 1 }
        }
        if !removed.keeps(Removable::PrimaryOnly) {
            // A standby lists nobody as running.
            running = 0;
        }
        Snapshot { end, running: running & ((1_u16 << end) - 1) as u8 }
    }

    pub(super) fn begin(&mut self, writer: usize) {
        self.transactions[writer] = Transaction::Running { number: self.next };
        self.next += 1;
    }

    pub(super) fn commit(&mut self, writer: usize, number: u8, commit: Commit) {
        self.transactions[writer] = Transaction::Committed { number, age: 0 };
        if commit != Commit::Asynchronous {
            // The log is durable up to this commit.
            self.durable = self.committed();
        }
    }

    pub(super) fn committed(&self) -> Writers {
        self.those(|transaction| matches!(transaction, Transaction::Committed { .. }))
    }

    /// Changes that no get may miss: they were committed the deadline ago.
    pub(super) fn binding(&self, deadline: u8) -> Writers {
        self.those(|transaction| matches!(transaction, Transaction::Committed { age, .. } if age >= deadline))
    }

    /// Changes that no get may show: they were lost the deadline ago.
    pub(super) fn gone(&self, deadline: u8) -> Writers {
        self.those(|transaction| matches!(transaction, Transaction::Lost { age } if age >= deadline))
    }

    pub(super) fn lost(&self) -> Writers {
        self.those(|transaction| matches!(transaction, Transaction::Lost { .. }))
    }

    fn those(&self, are: impl Fn(Transaction) -> bool) -> Writers {
        let mut those = Writers::NONE;
        self.each().filter(|(_, transaction)| are(*transaction)).for_each(|(writer, _)| those.add(writer));
        those
    }

    /// The changes whose rows a statement that begins now sees, and that came after the position.
    pub(super) fn changes_since(&self, from: Snapshot, removed: Removed) -> Writers {
        let mut since = Writers::NONE;
        for (writer, transaction) in self.each() {
            let Transaction::Committed { number, .. } = transaction else { continue };
            let is_new = match removed.keeps(Removable::SnapshotDifference) {
                true => !from.sees(number),
                false => number >= from.end,
            };
            if is_new && !self.removed.has(writer) {
                since.add(writer);
            }
        }
        since
    }

    /// Those of the changes that a position sees.
    pub(super) fn seen(&self, changes: Writers, position: Position, removed: Removed) -> Writers {
        let is_of_now = self.clock.is_some_and(|clock| clock.epoch == position.epoch);
        let mut seen = Writers::NONE;
        for (writer, transaction) in self.each().filter(|(writer, _)| changes.has(*writer)) {
            let Transaction::Committed { number, .. } = transaction else { continue };
            if position.snapshot.sees(number) && (is_of_now || !removed.keeps(Removable::PlaceEpoch)) {
                seen.add(writer);
            }
        }
        seen
    }

    /// The head of a poll: where the node will be, and whether it can go on from there.
    pub(super) fn head(&self, removed: Removed) -> Option<Position> {
        let clock = self.clock?;
        Some(Position { epoch: clock.epoch, snapshot: self.snapshot(removed) })
    }

    /// Whether all changes since the position are still there.
    pub(super) fn goes_on_from(&self, from: Position, removed: Removed) -> bool {
        self.clock.is_some_and(|clock| {
            let epoch = clock.epoch == from.epoch || !removed.keeps(Removable::FeedEpoch);
            let kept = from.snapshot.is_as_new_as(clock.trimmed) || !removed.keeps(Removable::Gap);
            epoch && kept && self.snapshot(removed).is_as_new_as(from.snapshot)
        })
    }

    /// Makes the clock. `None`: there is one.
    pub(super) fn register(&mut self, removed: Removed) -> Option<()> {
        if self.clock.is_some() {
            return None;
        }
        self.clock = Some(Clock { epoch: self.crashes, trimmed: self.snapshot(removed) });
        Some(())
    }

    /// Trims the changes that a moment sees. Says so in the same transaction.
    pub(super) fn trim(&mut self, moment: usize, removed: Removed) -> Option<()> {
        let old = *self.moments.get(moment)?;
        let clock = self.clock.as_mut()?;
        let is_back = !old.is_as_new_as(clock.trimmed);
        if is_back && removed.keeps(Removable::TrimForward) || self.unsaid.is_some() {
            return None;
        }
        if removed.keeps(Removable::TrimInOne) {
            clock.trimmed = old;
        } else {
            self.unsaid = Some(old);
        }
        for (writer, transaction) in self.transactions.iter().enumerate() {
            if matches!(transaction, Transaction::Committed { number, .. } if old.sees(*number)) {
                self.removed.add(writer);
            }
        }
        Some(())
    }

    /// Without `trim-in-one`: says what was removed.
    pub(super) fn say(&mut self) -> Option<()> {
        let old = self.unsaid.take()?;
        self.clock.as_mut()?.trimmed = old;
        Some(())
    }

    /// The server crashes, and with it goes what only unlogged tables hold. `lossy`: commits that were not durable are lost.
    pub(super) fn crash(&mut self, lossy: bool) {
        self.crashes += 1;
        self.clock = None;
        self.moments.clear();
        self.unsaid = None;
        let mut next = 0;
        for (writer, transaction) in self.transactions.iter_mut().enumerate() {
            *transaction = match *transaction {
                Transaction::Committed { .. } if lossy && !self.durable.has(writer) => Transaction::Lost { age: 0 },
                Transaction::Running { .. } => Transaction::RolledBack,
                other => other,
            };
            if let Transaction::Committed { number, .. } | Transaction::Prepared { number } = *transaction {
                next = next.max(number + 1);
            }
        }
        // Numbers that no durable record names are given out again.
        self.next = next;
        self.durable = self.committed();
    }

    /// A tick of the clock.
    pub(super) fn tick(&mut self, deadline: u8) {
        for transaction in &mut self.transactions {
            if let Transaction::Committed { age, .. } | Transaction::Lost { age } = transaction {
                *age = deadline.min(*age + 1);
            }
        }
    }
}

/// The objects that these keys name.
pub(super) fn objects(keys: Keys) -> impl Iterator<Item = Object> {
    OBJECTS.into_iter().filter(move |object| keys.meets(object.key()))
}
