//! The contract of larder as code: cases that every connector must pass, alone and stacked.
//!
//! A connector is put through the suite by a [`Subject`], which opens it. [`conformance!`](macro@crate::conformance) makes one
//! test of each [`Promise`]; [`check`] and [`run`] are for harnesses of another kind. A case that fails panics with the
//! promise, what was seen, and every step that led there.
//!
//! # What the suite takes for granted
//!
//! The connector is healthy: its server answers, its time-outs are long enough never to fire here, and nobody else
//! uses the caches that the suite makes. What happens when the server fails is not the contract of a
//! connector alone, and is tested where it can be made to fail. One thing is asked of those that [can be cut
//! off](Nature::outages): changes made meanwhile are applied before anything is read again.
//!
//! # What is left out
//!
//! Not every connector can do everything: one in memory has no bytes that could be damaged. A subject declares in its
//! [`Nature`] of each ability whether its connector has it. A case that needs one it lacks is left out, and printed:
//! `left out: <subject>: <promise> <case>: <reason>`, on the standard output, also where the tests pass.
//!
//! # Why it can be trusted
//!
//! Whatever the suite asserts follows from the contract; where the contract leaves a choice (an object or a
//! miss), so does the suite, unless a connector could then pass by storing nothing. Nothing depends on how fast the
//! machine is: where time is real, no case expects an object to be there still after time has passed, and none expects
//! it to be gone before its age has certainly passed. And every case is seen to fail: this crate's own tests put
//! connectors with one flaw each through it.
//!
//! ```
//! use larder::{Connector, Schema, clock::{Clock, ManualClock}};
//! use larder_testing::conformance::{self, Ability::*, Nature, Promise, Subject};
//! use larder_testing::reference::{Reference, Shelf};
//! use std::{sync::Arc, time::Duration};
//!
//! struct Shelved { shelf: Shelf, hand: ManualClock }
//!
//! impl Subject for Shelved {
//!     fn nature(&self) -> Nature {
//!         Nature {
//!             shared: Yes,
//!             exact_time: Yes,
//!             bytes: No("objects are kept as they are"),
//!             evicts: No("there is always room"),
//!             leases: No("everybody may load"),
//!             absences: No("nothing is remembered of what does not exist"),
//!             expired: No("an object is gone when its max age is over"),
//!             outages: No("the shelf is in this process"),
//!         }
//!     }
//!
//!     async fn open(&self, _node: usize, schema: Schema) -> Arc<dyn Connector> {
//!         Arc::new(Reference::open(schema, &self.shelf))
//!     }
//!
//!     async fn pass(&self, time: Duration) {
//!         self.hand.advance(time);
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let (clock, hand) = Clock::manual();
//! let subject = Shelved { shelf: Shelf::new(clock), hand };
//! conformance::check(Promise::C2, &subject).await;
//! # }
//! ```
#![allow(clippy::panic, reason = "a broken promise is a panic: the suite runs inside tests")]

use larder::{Connector, Schema};
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use trial::Trial;

pub use nature::{Ability, Nature};
pub(crate) use trial::keys_of;

mod ages;
mod bytes;
mod dropping;
mod fences;
mod forgetting;
mod keys;
mod loading;
mod many;
mod nature;
mod options;
mod outage;
mod releases;
mod storing;
#[cfg(test)]
pub(crate) mod tests;
mod trial;
mod trouble;
mod versions;

/// What the suite needs from a connector under test.
pub trait Subject: Send + Sync {
    /// What kind of connector it is. A case that needs what the connector cannot do is left out, and printed with the reason.
    fn nature(&self) -> Nature;

    /// Opens a cache as this node would, and waits until it can be read. It is empty unless it was opened before: the suite
    /// uses each cache name for one case. Asked again with the same node, cache and fingerprint, the connector may be the
    /// same; for other nodes and fingerprints it shares what is stored, unless the connector is private to a
    /// node: then all nodes get the same connector, and each fingerprint one of its own.
    fn open(&self, node: usize, schema: Schema) -> impl Future<Output = Arc<dyn Connector>> + Send;

    /// Lets time pass for the ages: advances an injected clock, or waits.
    fn pass(&self, time: Duration) -> impl Future<Output = ()> + Send;

    /// Shows `edit` the stored bytes of every object of this cache, and stores what it leaves of them in their place. Bytes
    /// that only help to find objects may be shown too. Only asked of those that [store bytes](Nature::bytes).
    fn rewrite(&self, _cache: &str, _edit: &mut (dyn FnMut(&mut Vec<u8>) + Send)) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Makes the connector drop every object of this cache as it does when it runs out of room. Only asked of those
    /// that [evict](Nature::evicts).
    fn evict(&self, _cache: &str) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Cuts every node off from what is stored, which stays as it is. Only asked of those that have [outages](Nature::outages).
    fn interrupt(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Ends what [`interrupt`](Self::interrupt) began. Need not wait until the connectors have noticed.
    fn mend(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

macro_rules! promises {
    ($($promise:ident $text:literal)*) => {
        /// A promise of the contract, or loading, which builds on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Promise {
            $(#[doc = $text] $promise),*
        }

        impl Promise {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$promise),*];

            /// What is promised, in short.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$promise => $text),*
                }
            }
        }
    };
}

promises! {
    C1 "a get returns the object last stored that lists the key, or a miss"
    C2 "storing an object replaces its earlier state under every key, and invalidates whoever held one of its keys"
    C3 "an invalidation forgets each object that a key leads to, under all of its keys, on all nodes"
    C4 "a delete makes just those keys miss"
    C5 "a truncate forgets everything in its cache, and nothing else"
    C6 "an object is never served later than its max age after it was stored"
    C7 "an object is never served after it has gone unused for its last-use age"
    C8 "what was loaded before an invalidation or a set of any of its own keys is never served after that"
    C9 "a stored object is never replaced by one with a lower version, and an invalidation can demand a lowest one"
    C10 "a get never fails, a set never fails its caller, and every operation answers"
    C11 "bytes that cannot be decoded are a miss, are reported and are removed; they are never a wrong object"
    C12 "two releases with different shapes of an entry run side by side"
    C13 "dropping a future at any await point leaks nothing and loses nothing"
    C14 "no key or value can reach another cache's, index's or tenant's data"
    Loading "one load per key at a time, and nobody is answered by a load that missed a change before they asked"
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Puts a subject through every case of one promise. A case that needs an ability which the subject lacks is left out, and printed.
///
/// # Panics
///
/// If the promise is broken, if an operation does not answer within ten minutes, or if the subject lacks an ability and does not say why.
pub async fn check<S: Subject>(promise: Promise, subject: &S) {
    for case in suite().into_iter().filter(|case| case.promise == promise) {
        case.check(subject).await;
    }
}

/// Puts a subject through the whole suite.
///
/// # Panics
///
/// As [`check`].
pub async fn run<S: Subject>(subject: &S) {
    for promise in Promise::ALL {
        check(*promise, subject).await;
    }
}

/// Makes a test of each [`Promise`](crate::conformance::Promise): `conformance! { subject }`. The expression is
/// evaluated once per test, in an async function of which it may use `.await`. With `each` in front it yields several subjects,
/// such as one for each server that is installed, which are checked one after the other.
///
/// ```text
/// larder_testing::conformance! { MemorySubject::new() }
/// larder_testing::conformance! { each RedisSubject::on_all_servers().await }
/// ```
#[macro_export]
macro_rules! conformance {
    (each $subjects:expr) => {
        $crate::conformance! { @ $subjects;
            c1_last_stored_or_a_miss C1
            c2_no_ghosts C2
            c3_invalidate C3
            c4_delete C4
            c5_truncate C5
            c6_max_age C6
            c7_last_use_age C7
            c8_no_late_fill C8
            c9_versions C9
            c10_never_an_error C10
            c11_any_bytes C11
            c12_two_releases C12
            c13_dropped_futures C13
            c14_any_key C14
            loading Loading
        }
    };
    (@ $subjects:expr; $($test:ident $promise:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            for subject in $subjects {
                $crate::conformance::check($crate::conformance::Promise::$promise, &subject).await;
            }
        }
    )*};
    ($subject:expr) => {
        $crate::conformance! { each [$subject] }
    };
}

/// One case of a promise.
struct Case<S> {
    promise: Promise,
    name: &'static str,
    /// What the subject must be able to do.
    needs: fn(Nature) -> Ability,
    run: for<'a> fn(Trial<'a, S>) -> Running<'a>,
}

type Running<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl<S: Subject> Case<S> {
    /// After this long a case is taken to hang. The slowest takes seconds, on a machine that has time for it.
    const PATIENCE: Duration = Duration::from_secs(600);

    async fn check(&self, subject: &S) {
        if let Ability::No(reason) = (self.needs)(subject.nature()) {
            return nature::leave_out::<S>(self.promise, self.name, None, reason);
        }
        let trial = Trial::begin(subject, self.promise, self.name);
        let history = trial.history.clone();
        let mut run = (self.run)(trial);
        let run = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(None),
            Err(panic) => Poll::Ready(Some(panic)),
        });
        match tokio::time::timeout(Self::PATIENCE, run).await {
            Ok(None) => {}
            Ok(Some(panic)) => history.panicked(panic),
            Err(_) => history.fail(format!("the next step has no answer after {:?}", Self::PATIENCE)),
        }
    }
}

/// Every case of every promise.
fn suite<S: Subject>() -> Vec<Case<S>> {
    [
        storing::cases(),
        forgetting::cases(),
        ages::cases(),
        fences::cases(),
        versions::cases(),
        trouble::cases(),
        bytes::cases(),
        releases::cases(),
        dropping::cases(),
        keys::cases(),
        loading::cases(),
        many::cases(),
        options::cases(),
        outage::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Lists the cases of a file: `Promise { case, case if ability }`.
macro_rules! table {
    ($($promise:ident { $($name:ident $(if $need:ident)?,)* })*) => {
        pub(super) fn cases<S: $crate::conformance::Subject>() -> Vec<$crate::conformance::Case<S>> {
            vec![$($($crate::conformance::Case {
                promise: $crate::conformance::Promise::$promise,
                name: stringify!($name),
                needs: |_nature| {
                    let _needs = $crate::conformance::Ability::Yes;
                    $(let _needs = _nature.$need;)?
                    _needs
                },
                run: |trial| Box::pin($name(trial)),
            },)*)*]
        }
    };
}
use table;
