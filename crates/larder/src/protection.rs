//! The protections that keep larder's promises, each with a switch to turn it off. The torture turns a protection off (`--without`) to
//! show that it notices the broken promise.
//!
//! Without the cargo feature `torture` no protection can be turned off: each check is a constant, and this module is not public. With the
//! feature, each check costs one load of a static. Never use the feature in a service.
//!
//! In a Lua script and in the SQL of the postgres connector, a protection consists of the lines that end in `-- protection: ` and its name. The
//! script must be valid without these lines.

#[cfg(feature = "remote")]
use std::borrow::Cow;

/// One of the protections on which larder's promises rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// A fill, or an update, is refused if one of its object's keys was touched since its ticket.
    Fence,
    /// The ticket is taken before the load, or the write, begins.
    Ticket,
    /// An invalidation that could not be delivered is kept, and replayed before anything is read.
    Journal,
    /// A lower version neither replaces a higher version nor passes a floor.
    Version,
    /// A truncate makes a new epoch, and so does the loss of the clock.
    Epoch,
    /// A server that was restarted, restored or went back in time is not trusted.
    History,
    /// A reader believes an object only if it lists the key that was asked for.
    Validate,
    /// PostgreSQL: a read compares the object's ticket with every fence of the object's keys.
    ReadCheck,
    /// PostgreSQL: only fences that every accepted ticket sees are swept, and tickets of older generations are refused.
    Generations,
    /// PostgreSQL: a sweep waits until the fills have ended whose generation is over.
    Drain,
    /// Feed: a cache is read only while its last successful poll began less than the deadline ago.
    Deadline,
    /// Feed: a poll also asks for the transactions that were running when the poll before looked, and have committed since.
    SnapshotDifference,
    /// Tiers: what a node has in its own memory is read only while its last follow that was answered was sent less than the validity ago.
    Validity,
    /// Tiers: a node acknowledges only what it has forgotten already.
    AckOrder,
    /// Tiers: an object whose key was touched while it was on its way into a node's own memory is not taken in.
    Ring,
    /// Tiers: after a failover, a cache is in use again only when the memory of every node that followed the old server is no longer valid.
    SettleWait,
    /// Sentinel: nothing is read from a promoted master, or applied there, before every node has left the one before.
    Grace,
    /// Cluster: where a slot is on its way, the node that it goes to is not asked.
    NeverAsk,
}

impl Protection {
    /// All protections.
    pub const ALL: [Self; 18] = [
        Self::Fence,
        Self::Ticket,
        Self::Journal,
        Self::Version,
        Self::Epoch,
        Self::History,
        Self::Validate,
        Self::ReadCheck,
        Self::Generations,
        Self::Drain,
        Self::Deadline,
        Self::SnapshotDifference,
        Self::Validity,
        Self::AckOrder,
        Self::Ring,
        Self::SettleWait,
        Self::Grace,
        Self::NeverAsk,
    ];

    /// The name of the protection in scripts and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fence => "fence",
            Self::Ticket => "ticket",
            Self::Journal => "journal",
            Self::Version => "version",
            Self::Epoch => "epoch",
            Self::History => "history",
            Self::Validate => "validate",
            Self::ReadCheck => "readcheck",
            Self::Generations => "generations",
            Self::Drain => "drain",
            Self::Deadline => "deadline",
            Self::SnapshotDifference => "snapshot-difference",
            Self::Validity => "validity",
            Self::AckOrder => "ack-order",
            Self::Ring => "ring",
            Self::SettleWait => "settle-wait",
            Self::Grace => "grace",
            Self::NeverAsk => "never-ask",
        }
    }
}

#[cfg(feature = "torture")]
mod switches {
    use super::Protection;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// One bit for each protection that is off.
    static OFF: AtomicU32 = AtomicU32::new(0);

    impl Protection {
        /// Switches the protection off in this process, for good. Call this before the first cache is opened: scripts are made once.
        pub fn switch_off(self) {
            OFF.fetch_or(1 << self as u8, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn holds(protection: Protection) -> bool {
        OFF.load(Ordering::Relaxed) & (1 << protection as u8) == 0
    }
}

#[cfg(feature = "torture")]
pub(crate) use switches::holds;

/// Whether the protection is on.
#[cfg(not(feature = "torture"))]
#[inline]
pub(crate) const fn holds(_: Protection) -> bool {
    true
}

/// The script without the lines of the protections that are off.
#[cfg(feature = "remote")]
pub(crate) fn in_script(code: &'static str) -> Cow<'static, str> {
    let off = |line: &str| {
        let name = line.trim_end().rsplit_once("-- protection: ").map(|(_, name)| name);
        name.is_some_and(|name| {
            Protection::ALL.iter().any(|protection| protection.name() == name && !holds(*protection))
        })
    };
    if !cfg!(feature = "torture") || !code.lines().any(off) {
        return Cow::Borrowed(code);
    }
    Cow::Owned(code.split_inclusive('\n').filter(|line| !off(line)).collect())
}

/// The text of a statement. If the protection is off, `instead` stands in the place of the part of the text that is the protection.
#[cfg(feature = "postgres")]
pub(crate) fn without(text: Cow<'static, str>, part: &str, instead: &str, protection: Protection) -> Cow<'static, str> {
    if holds(protection) { text } else { Cow::Owned(text.replace(part, instead)) }
}
