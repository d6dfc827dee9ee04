//! What a connector can do, as its author declares it, and the cases that are left out because of what it cannot.

use super::{Promise, Subject};
use std::collections::HashSet;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// Whether a connector can do something that not every connector can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// It can, and the cases that need it are run.
    Yes,
    /// It cannot, for this reason. The cases that need it are left out, and each is printed with the reason.
    No(&'static str),
}

impl Ability {
    /// Whether the connector can.
    #[must_use]
    pub fn is_there(self) -> bool {
        self == Self::Yes
    }
}

/// What kind of connector a [`Subject`] opens.
///
/// The contract itself (C1 to C14) is the same for all of them, versions included. What is declared here decides which cases can be
/// tried at all. There is no default: who forgets one field has a subject that does not compile, and who says [`Ability::Yes`] of what
/// the connector cannot do has one that fails.
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
    /// Several nodes, and several releases, see what one of them stores.
    pub shared: Ability,
    /// Time stands still but for [`Subject::pass`], so that ages can be checked to the millisecond, and from both sides.
    pub exact_time: Ability,
    /// Objects are stored as bytes, and [`Subject::rewrite`] can damage them.
    pub bytes: Ability,
    /// Objects leave when there is no more room, and [`Subject::evict`] can make them.
    pub evicts: Ability,
    /// [`lease`](larder::Connector::lease) grants one node at a time the load of a key, instead of letting everybody load.
    pub leases: Ability,
    /// [`fill_absent`](larder::Connector::fill_absent) remembers that the source has nothing under a key.
    pub absences: Ability,
    /// An object whose max age is over is kept for [`serve_expired`](larder::LoadOptions::serve_expired), for those who load its
    /// successor.
    pub expired: Ability,
    /// What stores the objects can be away for a while without losing them, and [`Subject::interrupt`] can make that happen.
    pub outages: Ability,
}

/// Prints once per process that a case, or the named part of one, is not tried with this subject.
///
/// It goes to the standard output itself, past the test harness, which shows what a test prints only if the test fails.
///
/// # Panics
///
/// If there is no reason.
pub(super) fn leave_out<S: Subject>(promise: Promise, case: &str, part: Option<&str>, reason: &str) {
    let subject = std::any::type_name::<S>();
    assert!(!reason.trim().is_empty(), "{subject} leaves {promise} {case} out and does not say why");
    let part = part.map_or_else(String::new, |part| format!(" ({part})"));
    let line = format!("left out: {subject}: {promise} {case}{part}: {reason}\n");
    static PRINTED: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    let mut printed = PRINTED.lock().unwrap_or_else(PoisonError::into_inner);
    if printed.get_or_insert_default().insert(line.clone()) {
        // Where nobody can be told, the test goes on all the same.
        let _ = std::io::stdout().write_all(line.as_bytes());
    }
}
