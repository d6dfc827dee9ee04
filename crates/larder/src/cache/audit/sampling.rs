//! Where a cache hands in its hits, if an auditor is there.

use crate::contract::{KeyRef, Value};
use crate::telemetry::catalogue;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// An auditor, as a cache sees it.
pub(crate) trait Desk: Send + Sync {
    /// A hit. Never waits.
    fn take(&self, key: KeyRef<'_>, object: Value);

    /// Hands what is counted to the metrics recorder.
    fn publish(&self, cache: &str);
}

/// A place for one auditor. All that a hit pays for an empty one is a look at `manned`; for one that is not, no lock is taken unless
/// the hit is handed in.
pub(crate) struct Post {
    manned: AtomicBool,
    /// The part of the hits that is handed in, as bits of an `f64`.
    share: AtomicU64,
    begun: Instant,
    /// Until when the cache is not read, in ms since `begun`; 0: it is read, the highest: until it is reset.
    bypass_until: AtomicU64,
    desk: RwLock<Option<Arc<dyn Desk>>>,
}

impl Default for Post {
    fn default() -> Self {
        Self {
            manned: AtomicBool::new(false),
            share: AtomicU64::new(0),
            begun: Instant::now(),
            bypass_until: AtomicU64::new(0),
            desk: RwLock::new(None),
        }
    }
}

impl Post {
    #[inline]
    pub(crate) fn is_manned(&self) -> bool {
        self.manned.load(Ordering::Relaxed)
    }

    /// Whether the cache is not to be read.
    pub(crate) fn bypasses(&self) -> bool {
        let until = self.bypass_until.load(Ordering::Acquire);
        until > 0 && milliseconds(self.begun.elapsed()) < until
    }

    /// A hit.
    pub(crate) fn saw<E: Send + Sync + 'static>(&self, key: KeyRef<'_>, object: &Arc<E>) {
        if !self.is_manned() || fastrand::f64() >= f64::from_bits(self.share.load(Ordering::Relaxed)) {
            return;
        }
        if let Some(desk) = &*self.desk.read() {
            desk.take(key, object.clone());
        }
    }

    pub(crate) fn publish(&self, cache: &str) {
        let desk = self.desk.read();
        let Some(desk) = &*desk else { return };
        desk.publish(cache);
        catalogue::AUDIT_BYPASS.value([cache], if self.bypasses() { 1.0 } else { 0.0 });
    }

    pub(super) fn man(&self, desk: Arc<dyn Desk>, share: f64) {
        *self.desk.write() = Some(desk);
        self.share.store(share.to_bits(), Ordering::Relaxed);
        self.end_bypass();
        self.manned.store(true, Ordering::Relaxed);
    }

    /// Unless another auditor has taken the place.
    pub(super) fn leave(&self, desk: &Arc<dyn Desk>) {
        let mut place = self.desk.write();
        if place.as_ref().is_some_and(|there| Arc::ptr_eq(there, desk)) {
            *place = None;
            self.manned.store(false, Ordering::Relaxed);
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
