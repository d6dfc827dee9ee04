//! Offers the hits of a cache to an auditor, if there is one.

use crate::contract::{KeyRef, Value};
use crate::telemetry::catalogue;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// An auditor, as the cache sees it.
pub(crate) trait SampleSink: Send + Sync {
    /// Takes a hit. Never waits.
    fn take(&self, key: KeyRef<'_>, object: Value);

    /// Publishes the auditor's counters to the metrics recorder.
    fn publish(&self, cache: &str);
}

/// Says which hits of a cache are offered to an auditor. Without an auditor a hit only reads `on`. With an auditor, only a hit that is a
/// sample takes a lock.
pub(crate) struct Sampling {
    on: AtomicBool,
    /// The part of the hits that is a sample, as bits of an `f64`.
    share: AtomicU64,
    begun: Instant,
    /// Until when the cache is bypassed, in ms since `begun`. 0: it is not bypassed. The highest value: until the bypass is reset.
    bypass_until: AtomicU64,
    sink: RwLock<Option<Arc<dyn SampleSink>>>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            on: AtomicBool::new(false),
            share: AtomicU64::new(0),
            begun: Instant::now(),
            bypass_until: AtomicU64::new(0),
            sink: RwLock::new(None),
        }
    }
}

impl Sampling {
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Whether the cache is bypassed now: its gets miss without reading it.
    pub(crate) fn bypasses(&self) -> bool {
        let until = self.bypass_until.load(Ordering::Acquire);
        until > 0 && milliseconds(self.begun.elapsed()) < until
    }

    /// Offers a hit. It becomes a sample with the probability `share`.
    pub(crate) fn offer<E: Send + Sync + 'static>(&self, key: KeyRef<'_>, object: &Arc<E>) {
        if !self.is_on() || fastrand::f64() >= f64::from_bits(self.share.load(Ordering::Relaxed)) {
            return;
        }
        if let Some(sink) = &*self.sink.read() {
            sink.take(key, object.clone());
        }
    }

    pub(crate) fn publish(&self, cache: &str) {
        let sink = self.sink.read();
        let Some(sink) = &*sink else { return };
        sink.publish(cache);
        catalogue::AUDIT_BYPASS.value([cache], if self.bypasses() { 1.0 } else { 0.0 });
    }

    /// From now on offers this share of the hits to this auditor, and to no other.
    pub(super) fn begin(&self, sink: Arc<dyn SampleSink>, share: f64) {
        *self.sink.write() = Some(sink);
        self.share.store(share.to_bits(), Ordering::Relaxed);
        self.end_bypass();
        self.on.store(true, Ordering::Relaxed);
    }

    /// Stops offering hits to this auditor, unless another one has already taken its place.
    pub(super) fn end(&self, sink: &Arc<dyn SampleSink>) {
        let mut current = self.sink.write();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, sink)) {
            *current = None;
            self.on.store(false, Ordering::Relaxed);
            self.end_bypass();
        }
    }

    pub(super) fn begin_bypass(&self, lasting: Duration) {
        let until = milliseconds(self.begun.elapsed().saturating_add(lasting));
        self.bypass_until.store(until, Ordering::Release);
    }

    pub(super) fn end_bypass(&self) {
        self.bypass_until.store(0, Ordering::Release);
    }
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
