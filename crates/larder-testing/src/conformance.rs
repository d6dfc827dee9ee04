//! The contract of larder as code: cases that every connector must pass.
//!
//! A test implements [`Subject`], which opens the connector under test. [`conformance!`](macro@crate::conformance) makes one test of
//! each [`Promise`]. A harness of another kind calls [`check`] or [`run`]. A case that fails panics with the promise, with what it saw,
//! and with the last steps that led there.
//!
//! # What the suite takes for granted
//!
//! The connector is healthy: its server answers, its time-outs are long enough never to fire, and nobody else uses the caches that the
//! suite makes. How a connector behaves when its server fails is tested elsewhere, with real servers. The suite tests one thing of
//! connectors that [can be cut off](Nature::outages): they apply the changes of an outage before they read anything again.
//!
//! # What is left out
//!
//! Not every connector can do everything: a connector in memory has no bytes that could be damaged. A subject declares in its [`Nature`]
//! which abilities its connector has. A case that needs a missing ability is left out, and printed:
//! `left out: <subject>: <promise> <case>: <reason>`, on the standard output, even if the tests pass.
//!
//! # Why it can be trusted
//!
//! - Everything that the suite asserts follows from the contract. Where the contract leaves a choice (an object or a miss), the suite
//!   accepts both, unless a connector could then pass by storing nothing.
//! - Nothing depends on the speed of the machine. Where time is real, no case expects an object to be still there after a wait, and no
//!   case expects it to be gone before its age has certainly passed.
//! - The suite is itself tested: this crate's tests run connectors with one flaw each, and the suite must reject each of them.
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
//!             at_once: Yes,
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
    /// What the connector can do. A case that needs something else is left out, and printed with the reason.
    fn nature(&self) -> Nature;

    /// Opens a cache on the node with this number, and returns when the cache can be read. The suite uses each cache name for one case
    /// only, so a cache is empty when it is opened for the first time.
    ///
    /// - The same node, cache and fingerprint as before: may return the same connector.
    /// - Another node or fingerprint, of a connector whose nodes [share](Nature::shared) what they store: another connector to the same
    ///   data.
    /// - Another node, of a connector that is private to its node: the same connector. Each fingerprint has a connector of its own.
    fn open(&self, node: usize, schema: Schema) -> impl Future<Output = Arc<dyn Connector>> + Send;

    /// Lets time pass for the ages: advances an injected clock, or waits.
    fn pass(&self, time: Duration) -> impl Future<Output = ()> + Send;

    /// Calls `edit` with the stored bytes of every object of this cache, and stores the edited bytes in their place. May also call it
    /// with bytes that only help to find objects. Called only for connectors that [store bytes](Nature::bytes).
    fn rewrite(&self, _cache: &str, _edit: &mut (dyn FnMut(&mut Vec<u8>) + Send)) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Makes the connector drop every object of this cache, in the way it does when it runs out of room. Called only for connectors that
    /// [evict](Nature::evicts).
    fn evict(&self, _cache: &str) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Begins an outage: no node reaches the stored data, and the data stay as they are. Called only for connectors that have
    /// [outages](Nature::outages).
    fn interrupt(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Ends the outage that [`interrupt`](Self::interrupt) began. Need not wait until the connectors have noticed.
    fn mend(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

macro_rules! promises {
    ($($promise:ident $text:literal)*) => {
        /// A promise of the contract, or [`Loading`](Self::Loading), which builds on the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Promise {
            $(#[doc = $text] $promise),*
        }

        impl Promise {
            /// All promises.
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

/// Runs every case of one promise. A case that needs an ability which the subject lacks is left out, and printed.
///
/// # Panics
///
/// If the promise is broken, if a case does not end within ten minutes, or if the subject lacks an ability and gives no reason.
pub async fn check<S: Subject>(promise: Promise, subject: &S) {
    for case in suite().into_iter().filter(|case| case.promise == promise) {
        case.check(subject).await;
    }
}

/// Runs the whole suite.
///
/// # Panics
///
/// As [`check`].
pub async fn run<S: Subject>(subject: &S) {
    for promise in Promise::ALL {
        check(*promise, subject).await;
    }
}

/// Makes a test of each [`Promise`](crate::conformance::Promise): `conformance! { subject }`. Each test evaluates the expression once, in
/// an async function, so the expression may use `.await`. With `each` in front, the expression yields several subjects, for example one
/// for each installed server. The test then checks one after the other.
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
    /// The ability that the case needs.
    needs: fn(Nature) -> Ability,
    run: for<'a> fn(Trial<'a, S>) -> Running<'a>,
}

type Running<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl<S: Subject> Case<S> {
    /// A case that takes longer than this counts as hung. On an idle machine the slowest case takes seconds.
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

/// Lists the cases of a file: `Promise { case, case if ability, }`.
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
