//! Checks whether a cache serves what it should: takes samples of the hits, reads the source again in the background, and compares.
//!
//! ```
//! # use larder::{Cache, Entry, Schema, audit::AuditOptions, connector::memory::{Memory, MemoryOptions}};
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Clone, Serialize, Deserialize, Entry)]
//! # #[entry(cache = "instance")]
//! # struct Instance { #[key(primary)] id: String, name: String }
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! # let schema = Schema::of::<Instance>();
//! # let instances: Cache<Instance> =
//! #     Cache::new(std::sync::Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap()), schema).unwrap();
//! let audit = instances
//!     .audited(AuditOptions::new().share(0.001), |served| async move {
//!         // Read the object with the primary key of `served` from the database here.
//!         Ok::<_, std::io::Error>(Some(Instance { id: served.id.clone(), name: "Acme".into() }))
//!     })
//!     .unwrap();
//! assert_eq!(audit.findings().stale, 0);
//! # }
//! ```
//!
//! # What is stale
//!
//! That a cached object differs from its source proves nothing: the source may have changed between the two reads. The auditor proves an
//! object stale if writers *behave*: each change is committed, and within the **grace** it is invalidated by a key that the cached object
//! lists, or set, or written with [`update`](crate::Cache::update).
//!
//! | step | what is read | what is known by then | what ends the examination |
//! |---|---|---|---|
//! | 0 | a hit | | |
//! | 1 | a ticket | | |
//! | 2 | the source: *s₁* | the source had *s₁* at a moment *m* of this read | the hit is *s₁*, or newer: **current** |
//! | 3 | a grace later, the cache, by the same key: *s* | every state that *s₁* replaced has been invalidated | a miss, another object, *s₁* or newer: **current**. A lower version than *s₁*: **stale** |
//! | 4 | the source: *s₂* | a writer may have brought *s* back since *m* | *s* is *s₂*, or newer: **current** |
//! | 5 | a grace later, whether a key of *s* was touched since the ticket | a writer that replaced *s*, at any time since *m*, has touched one | untouched: **stale**. Touched: again from step 1 |
//!
//! *With versions* (step 3): the get began a grace after the read of the source had ended, and found a lower version than that read. The
//! state that it found had been replaced, and invalidated, before the get began. No change lowers a version.
//!
//! *Without versions* (steps 4 and 5) a state may come back: *s*, then *s₁*, and *s* again, which was loaded correctly. Suppose that step 4
//! read another state *s₂*. There are two cases:
//!
//! - The source had *s* at some moment after *m*, and a later change replaced it. That change was invalidated within the grace, so before
//!   step 5 and after the ticket, by a key that leads to *s*. A key of *s* was touched.
//! - The source did not have *s* since *m*. Then the change that replaced *s* was invalidated before the get of step 3 began. The get was
//!   wrong.
//!
//! If no key of *s* was touched, only the second case is left. An object whose keys are touched all the time is examined [`ROUNDS`] times,
//! and is then **undecided**.
//!
//! The reported age is the time from the end of step 2 to the last get that still found the object. The object has been stale for at least
//! that long.
//!
//! # What it does not cover
//!
//! - If a source lags behind its writers by more than the grace, as a replica may, and there are no versions, there are false alarms.
//! - States are compared by version if both have one, otherwise by their encoding. That comparison ignores order, because the order of a
//!   hash map means nothing. So a difference in nothing but the order of a list is not noticed.
//! - An invalidation that was *deferred* on one node reaches the others late. What they serve until then is stale, and is reported.
//! - The auditor's reads of the cache are gets, and count as use.
//!
//! # What it costs
//!
//! Without an auditor a hit costs one branch. A request never waits for the auditor: a sample that finds no room is skipped. If the source
//! fails, panics or is slow, the auditor pauses, for longer each time. Nothing else is affected.

use crate::cache::{Cache, Inner};
use crate::contract::{KeyBuf, KeyRef};
use crate::entry::{Entry, index};
use crate::option_error::{OptionError, Refuse, setters};
use crate::telemetry::{Counter, catalogue};
use rule::State;
use sampling::{SampleSink, milliseconds};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

mod rule;
mod sampling;

pub(crate) use sampling::Sampling;

/// How many times an object is examined whose keys are touched all the time. After that it is undecided.
pub const ROUNDS: u32 = 3;

/// How long the auditor rests after the source has failed once. The rest doubles with each failure, up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Which part of the hits is audited, and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AuditOptions {
    /// The part of the hits that is examined, from 0 (none) to 1. Default 0.001.
    pub share: f64,
    /// How long after a change its invalidation may take; above 0. An examination that finds a difference takes twice the grace. Default
    /// 5 s.
    pub grace: Duration,
    /// How long one read of the source may take; above 0. Default 1 s.
    pub source_timeout: Duration,
    /// How many examinations run at once; 1 to 1,000,000. Default 4.
    pub concurrency: usize,
    /// How many examinations begin in a second at most; 1 or more. Default 10.
    pub per_second: u32,
    /// For how long a cache is bypassed after it was found to serve a stale object: its gets miss, with
    /// [`Miss::Bypassed`](crate::Miss::Bypassed), and loads go to the source. Zero: the cache is not bypassed. [`Duration::MAX`]: until
    /// [`Audit::reset`]. Default 0.
    pub bypass: Duration,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            share: 0.001,
            grace: Duration::from_secs(5),
            source_timeout: Duration::from_secs(1),
            concurrency: 4,
            per_second: 10,
            bypass: Duration::ZERO,
        }
    }
}

pub(crate) const SHARE: &str = "the part of the hits, 0 (none) to 1";
pub(crate) const GRACE: &str = "a duration above 0, such as 5s";

impl AuditOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        share: f64,
        grace: Duration,
        source_timeout: Duration,
        concurrency: usize,
        per_second: u32,
        bypass: Duration,
    }

    /// Checks that every option can be used. [`Cache::audited`] refuses options that cannot.
    ///
    /// # Errors
    ///
    /// The first option that cannot be used, and what is accepted.
    pub fn validate(&self) -> Result<(), OptionError> {
        OptionError::first(|refuse| self.examine(refuse))
    }

    /// Reports every option that cannot be used.
    pub(crate) fn examine(&self, refuse: Refuse<'_>) {
        // A NaN is in no range.
        if !(0.0..=1.0).contains(&self.share) {
            refuse(OptionError::new("share", self.share, SHARE));
        }
        if self.grace.is_zero() {
            refuse(OptionError::duration("grace", self.grace, GRACE));
        }
        if self.source_timeout.is_zero() {
            refuse(OptionError::duration("source_timeout", self.source_timeout, "a duration above 0, such as 1s"));
        }
        if !(1..=1_000_000).contains(&self.concurrency) {
            refuse(OptionError::new("concurrency", self.concurrency, "a number, 1 to 1000000"));
        }
        if self.per_second == 0 {
            refuse(OptionError::new("per_second", self.per_second, "a number, 1 or more"));
        }
    }
}

/// Why a cache cannot be audited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// There is no Tokio runtime, and the auditor runs in a task.
    #[error("an audit was started outside a Tokio runtime; the auditor runs in a task")]
    NoRuntime,
    /// One of the options cannot be used.
    #[error("the audit cannot begin: {0}")]
    Option(OptionError),
}

impl From<OptionError> for AuditError {
    fn from(error: OptionError) -> Self {
        Self::Option(error)
    }
}

/// What an auditor has found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Objects that were as the source has them, or newer, or that were gone before they could be called stale.
    pub current: u64,
    /// Objects that were served although they had been replaced longer ago than the grace.
    pub stale: u64,
    /// The longest time that one of the stale objects had been stale for at least.
    pub worst: Duration,
    /// Objects that could not be decided: their keys were touched all the time, they could not be compared, or the connector did not say.
    pub undecided: u64,
    /// Examinations that ended because the source failed.
    pub failed: u64,
    /// Samples that were not examined, because too many others were, or because the auditor rested.
    pub skipped: u64,
}

/// An auditor at work. Dropping it ends the audit, and a bypass with it.
#[must_use = "dropping it ends the audit"]
pub struct Audit {
    cache: Weak<Inner>,
    sink: Arc<dyn SampleSink>,
    tally: Arc<Tally>,
    task: Option<AbortHandle>,
}

impl Audit {
    /// What has been found so far.
    #[must_use]
    pub fn findings(&self) -> Findings {
        self.tally.findings()
    }

    /// Whether the cache is bypassed now.
    #[must_use]
    pub fn bypasses(&self) -> bool {
        self.cache.upgrade().is_some_and(|cache| cache.sampling.bypasses())
    }

    /// Ends a bypass: the cache is read again.
    pub fn reset(&self) {
        if let Some(cache) = self.cache.upgrade() {
            cache.sampling.end_bypass();
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        if let Some(cache) = self.cache.upgrade() {
            cache.sampling.end(&self.sink);
        }
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("findings", &self.findings()).finish_non_exhaustive()
    }
}

impl<E: Entry> Cache<E> {
    /// Begins to audit this cache: see [`mod@crate::cache::audit`]. A cache has one auditor at a time; a second one replaces the first.
    ///
    /// `source` is given an object, and reads the object with the same primary key from the source, or returns `None` if there is none. It
    /// must return the state that every reader of the source sees once a change was committed.
    ///
    /// # Errors
    ///
    /// [`AuditError`]: an option cannot be used, or this is not called in a Tokio runtime.
    ///
    /// # Cancellation
    ///
    /// Dropping the [`Audit`] ends it, together with reads of the source that are under way.
    pub fn audited<F, L, Err>(&self, options: AuditOptions, source: F) -> Result<Audit, AuditError>
    where
        F: Fn(Arc<E>) -> L + Send + Sync + 'static,
        L: Future<Output = Result<Option<E>, Err>> + Send + 'static,
        Err: fmt::Display + Send + 'static,
    {
        options.validate()?;
        let runtime = Handle::try_current().map_err(|_| AuditError::NoRuntime)?;
        let (samples, taken) = mpsc::channel(options.concurrency);
        let tally = Arc::<Tally>::default();
        let sink = Arc::new(SampleQueue { samples, tally: tally.clone() });
        let auditor = Arc::new(Auditor {
            cache: Arc::downgrade(&self.inner),
            name: self.inner.schema.cache.clone(),
            options,
            tally: tally.clone(),
            source: Arc::new(move |served| {
                let read = source(served);
                Box::pin(async move { read.await.map_err(|error| format!("{error:#}")) })
            }),
        });
        let mut task = None;
        if options.share > 0.0 {
            task = Some(runtime.spawn(work(auditor, taken)).abort_handle());
            self.inner.sampling.begin(sink.clone(), options.share);
        }
        Ok(Audit { cache: Arc::downgrade(&self.inner), sink, tally, task })
    }
}

type Read<E> = Pin<Box<dyn Future<Output = Result<Option<E>, String>> + Send>>;

/// A hit that is to be examined.
struct Sample<E> {
    key: KeyBuf,
    object: Arc<E>,
}

/// The queue of samples that wait to be examined.
struct SampleQueue<E> {
    samples: mpsc::Sender<Sample<E>>,
    tally: Arc<Tally>,
}

impl<E: Entry> SampleSink for SampleQueue<E> {
    fn take(&self, key: KeyRef<'_>, object: crate::contract::Value) {
        let Ok(object) = object.downcast::<E>() else { return };
        if self.tally.rests() || self.samples.try_send(Sample { key: key.to_buf(), object }).is_err() {
            self.tally.skipped.increment();
        }
    }

    fn publish(&self, cache: &str) {
        self.tally.publish(cache);
    }
}

/// The counters of an auditor.
#[derive(Default)]
struct Tally {
    current: Counter,
    stale: Counter,
    undecided: Counter,
    failed: Counter,
    skipped: Counter,
    /// In ms.
    worst: AtomicU64,
    rests: AtomicBool,
}

impl Tally {
    fn findings(&self) -> Findings {
        Findings {
            current: self.current.get(),
            stale: self.stale.get(),
            worst: Duration::from_millis(self.worst.load(Ordering::Relaxed)),
            undecided: self.undecided.get(),
            failed: self.failed.get(),
            skipped: self.skipped.get(),
        }
    }

    fn rests(&self) -> bool {
        self.rests.load(Ordering::Acquire)
    }

    fn publish(&self, cache: &str) {
        let outcomes = [
            ("current", &self.current),
            ("stale", &self.stale),
            ("undecided", &self.undecided),
            ("failed", &self.failed),
            ("skipped", &self.skipped),
        ];
        for (outcome, counter) in outcomes {
            catalogue::AUDITED.total([cache, outcome], counter.get());
        }
        catalogue::AUDIT_WORST_AGE.value([cache], self.worst.load(Ordering::Relaxed) as f64 / 1000.0);
    }
}

type Source<E> = Arc<dyn Fn(Arc<E>) -> Read<E> + Send + Sync>;

/// Examines samples of one cache.
struct Auditor<E: Entry> {
    /// A weak reference, so that the auditor keeps no cache alive.
    cache: Weak<Inner>,
    name: Arc<str>,
    options: AuditOptions,
    tally: Arc<Tally>,
    source: Source<E>,
}

/// How an examination ended.
#[derive(Debug)]
enum Outcome {
    Current,
    Stale(Duration),
    Undecided,
    /// The source gave no answer, and why.
    Failed(String),
}

/// Begins one examination after the other, until the cache or the audit is gone.
async fn work<E: Entry>(auditor: Arc<Auditor<E>>, mut samples: mpsc::Receiver<Sample<E>>) {
    let places = Arc::new(Semaphore::new(auditor.options.concurrency));
    let interval = Duration::from_secs(1) / auditor.options.per_second;
    let (tell, mut told) = mpsc::unbounded_channel();
    // Dropped with this task, which ends the examinations that are under way.
    let mut examinations = JoinSet::new();
    let mut failures = 0;
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Some(sample) = samples.recv().await else { return };
        while let Some(ended) = examinations.try_join_next() {
            // The examination panicked: the object's keys or its encoding did.
            auditor.tally.undecided.add(u64::from(ended.is_err()));
        }
        let mut failed = false;
        while let Ok(well) = told.try_recv() {
            (failed, failures) = if well { (failed, 0) } else { (true, failures + 1_u32) };
        }
        if failed && failures > 0 {
            auditor.rest(failures, &mut samples).await;
            continue;
        }
        examinations.spawn(one(auditor.clone(), sample, place, tell.clone()));
        tokio::time::sleep(interval).await;
    }
}

/// Runs one examination, and tells whether the source has answered.
async fn one<E: Entry>(
    auditor: Arc<Auditor<E>>,
    sample: Sample<E>,
    _place: OwnedSemaphorePermit,
    tell: mpsc::UnboundedSender<bool>,
) {
    let outcome = auditor.examine(&sample).await;
    let _ = tell.send(!matches!(outcome, Outcome::Failed(_)));
    auditor.conclude(&sample.key, outcome);
}

impl<E: Entry> Auditor<E> {
    /// Leaves the source alone for a while, and then skips the samples that are old by now.
    async fn rest(&self, failures: u32, samples: &mut mpsc::Receiver<Sample<E>>) {
        self.tally.rests.store(true, Ordering::Release);
        self.tally.skipped.increment();
        tokio::time::sleep((PAUSE * (1 << (failures - 1).min(6))).min(LONGEST_PAUSE)).await;
        while samples.try_recv().is_ok() {
            self.tally.skipped.increment();
        }
        self.tally.rests.store(false, Ordering::Release);
    }

    /// Does the steps of the table in the module's documentation.
    async fn examine(&self, sample: &Sample<E>) -> Outcome {
        let Some(hit) = self.state(Some(sample.object.clone())) else { return Outcome::Undecided };
        for round in 0..ROUNDS {
            let Some(cache) = self.cache.upgrade() else { return Outcome::Undecided };
            let ticket = cache.connector.ticket().await;
            drop(cache);
            let first = match self.read(sample).await {
                Ok(Some(first)) if round == 0 && hit.is_as_new_as(&first) => return Outcome::Current,
                Ok(Some(first)) if first.is_of_the_same_object_as(&hit) => first,
                Ok(_) => return Outcome::Undecided,
                Err(error) => return Outcome::Failed(error),
            };
            let known = Instant::now();
            tokio::time::sleep(self.options.grace).await;
            let Some(served) = self.look(sample).await else { return Outcome::Current };
            let age = known.elapsed();
            let Some(served) = self.state(Some(served)) else { return Outcome::Undecided };
            // The key may lead to another object by now.
            if served.is_as_new_as(&first) || !served.is_of_the_same_object_as(&hit) {
                return Outcome::Current;
            }
            if served.is_outdated_by(&first) {
                return Outcome::Stale(age);
            }
            match self.read(sample).await {
                Ok(Some(second)) if served.is_as_new_as(&second) => return Outcome::Current,
                Ok(Some(_)) => {}
                Ok(None) => return Outcome::Undecided,
                Err(error) => return Outcome::Failed(error),
            }
            tokio::time::sleep(self.options.grace).await;
            let (Some(cache), Some(ticket)) = (self.cache.upgrade(), ticket) else { return Outcome::Undecided };
            match cache.connector.untouched(served.keys(), ticket).await {
                Some(true) => {
                    drop(cache);
                    let again = self.look(sample).await.and_then(|object| self.state(Some(object)));
                    let still = again.is_some_and(|again| again.is_as_new_as(&served));
                    return Outcome::Stale(if still { known.elapsed() } else { age });
                }
                Some(false) => {}
                None => return Outcome::Undecided,
            }
        }
        Outcome::Undecided
    }

    /// What the source has now; `None` if it cannot be compared.
    async fn read(&self, sample: &Sample<E>) -> Result<Option<State>, String> {
        let (source, served) = (self.source.clone(), sample.object.clone());
        // The task turns a panic of the source into an error, and ends with this future.
        let mut task = JoinSet::new();
        task.spawn(async move { source(served).await });
        match tokio::time::timeout(self.options.source_timeout, task.join_next()).await {
            Ok(Some(Ok(Ok(object)))) => Ok(self.state(object.map(Arc::new))),
            Ok(Some(Ok(Err(error)))) => Err(error),
            Ok(_) => Err("it panicked, or the runtime was shut down".to_owned()),
            Err(_) => Err(format!("it took longer than {:?}", self.options.source_timeout)),
        }
    }

    /// What the cache has now under the key of the hit.
    async fn look(&self, sample: &Sample<E>) -> Option<Arc<E>> {
        let cache = self.cache.upgrade()?;
        cache.connector.get(sample.key.as_ref()).await.ok()?.downcast::<E>().ok()
    }

    fn state(&self, object: Option<Arc<E>>) -> Option<State> {
        State::of(object, &self.cache.upgrade()?.schema)
    }

    fn conclude(&self, key: &KeyBuf, outcome: Outcome) {
        let cache = &*self.name;
        match outcome {
            Outcome::Current => self.tally.current.increment(),
            Outcome::Undecided => self.tally.undecided.increment(),
            Outcome::Failed(error) => {
                self.tally.failed.increment();
                tracing::warn!(cache, %error, "the auditor cannot read the source, and rests");
            }
            Outcome::Stale(age) => {
                self.tally.stale.increment();
                self.tally.worst.fetch_max(milliseconds(age), Ordering::Relaxed);
                catalogue::AUDIT_STALE_AGE.histogram([cache]).record(age.as_secs_f64());
                let bypassed = !self.options.bypass.is_zero();
                if let Some(cache) = self.cache.upgrade().filter(|_| bypassed) {
                    cache.sampling.begin_bypass(self.options.bypass);
                }
                let index = index::name_at::<E>(key.index);
                tracing::error!(
                    cache,
                    index,
                    age_ms = milliseconds(age),
                    bypassed,
                    "a stale object was served: its change is longer ago than an invalidation may take"
                );
                tracing::debug!(cache, index, key = %String::from_utf8_lossy(&key.bytes), "the key of that get");
            }
        }
    }
}
