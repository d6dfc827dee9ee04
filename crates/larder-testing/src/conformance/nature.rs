//! The abilities of a connector, as its author declares them. A case that needs a missing ability is left out.

use super::{Promise, Subject};
use std::collections::HashSet;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// Whether a connector has an ability that not every connector has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// The connector has the ability. The cases that need it are run.
    Yes,
    /// The connector lacks the ability, for this reason. The cases that need it are left out, and each is printed with the reason.
    No(&'static str),
}

impl Ability {
    /// Whether the connector has the ability.
    #[must_use]
    pub fn is_there(self) -> bool {
        self == Self::Yes
    }
}

/// The abilities of the connector that a [`Subject`] opens.
///
/// The contract (C1 to C14, versions included) is the same for all connectors. The abilities decide which cases can be run. There is no
/// default: a subject that leaves a field out does not compile, and a subject that claims an ability which its connector lacks fails.
///
/// ```
/// use larder_testing::conformance::{Ability::*, Nature};
///
/// let in_memory = Nature {
///     shared: No("each process has objects of its own"),
///     exact_time: Yes,
///     bytes: No("objects are kept as they are"),
///     evicts: Yes,
///     leases: No("there is no other node to load for"),
///     absences: Yes,
///     expired: Yes,
///     outages: No("there is no server that could be away"),
///     at_once: Yes,
/// };
/// # let _ = in_memory;
/// ```
///
/// ```compile_fail,E0063
/// use larder_testing::conformance::{Ability::*, Nature};
///
/// let forgetful = Nature { shared: Yes, exact_time: Yes, bytes: Yes, evicts: Yes };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nature {
    /// What one node or release stores, all other nodes and releases see.
    pub shared: Ability,
    /// Time passes only in [`Subject::pass`]. So ages can be checked to the millisecond: an object must not leave early either.
    pub exact_time: Ability,
    /// Objects are stored as bytes, and [`Subject::rewrite`] can damage them.
    pub bytes: Ability,
    /// Objects are evicted when there is no more room, and [`Subject::evict`] can make that happen.
    pub evicts: Ability,
    /// [`lease`](larder::Connector::lease) grants the load of a key to one node at a time, instead of letting all nodes load.
    pub leases: Ability,
    /// [`fill_absent`](larder::Connector::fill_absent) remembers that the source has nothing under a key.
    pub absences: Ability,
    /// An object past its max age is kept for as long as [`serve_expired`](larder::LoadOptions::serve_expired) says, so that it can be
    /// served while its successor is loaded.
    pub expired: Ability,
    /// What stores the objects can be unreachable for a while without losing them, and [`Subject::interrupt`] can make that happen.
    pub outages: Ability,
    /// A change takes effect on all nodes at one moment, under every key: who has seen it sees nothing older, also before it has returned. Without this
    /// ability, that is asked only of who begins after the change has returned.
    pub at_once: Ability,
}

/// Prints once per process that a case, or the named part of a case, is left out for this subject.
///
/// Writes to the standard output directly: the test harness captures what `println!` prints, and shows it only if the test fails.
///
/// # Panics
///
/// If the reason is blank.
pub(super) fn leave_out<S: Subject>(promise: Promise, case: &str, part: Option<&str>, reason: &str) {
    let subject = std::any::type_name::<S>();
    assert!(!reason.trim().is_empty(), "{subject} leaves {promise} {case} out and does not say why");
    let part = part.map_or_else(String::new, |part| format!(" ({part})"));
    let line = format!("left out: {subject}: {promise} {case}{part}: {reason}\n");
    static PRINTED: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    let mut printed = PRINTED.lock().unwrap_or_else(PoisonError::into_inner);
    if printed.get_or_insert_default().insert(line.clone()) {
        // A test must not fail because its output is closed.
        let _ = std::io::stdout().write_all(line.as_bytes());
    }
}
