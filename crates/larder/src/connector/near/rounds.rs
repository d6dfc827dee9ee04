//! [`Rounds`]: changes of this node wait until the node has asked once more what was touched.

use super::Near;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Timeout, timeout_at};

/// How long this node may take to ask once.
const OWN: Duration = Duration::from_secs(1);

/// Numbers the questions what was touched, and lets changes wait for the next one.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// How many have begun. Memories that are kept right by the same questions share it.
    begun: Arc<AtomicU64>,
    /// The last one that has ended, and whether its news are applied.
    ended: watch::Sender<(u64, bool)>,
    /// Asks for another one.
    pub(crate) wake: Notify,
}

impl Rounds {
    /// For questions that others ask, and number by this.
    #[cfg(feature = "postgres")]
    pub(crate) fn counted_by(begun: Arc<AtomicU64>) -> Self {
        Self { begun, ..Self::default() }
    }

    /// Lets the node ask once more. After that its memory has nothing that was touched before this was called. If it cannot ask, it forgets what it has.
    pub(crate) async fn catch_up(&self, near: &Near, home: &Handle) {
        // Nobody reads it, and what is on its way is refused.
        if !near.is_valid() || !in_time(home, Instant::now() + OWN, self.caught_up()).await.unwrap_or(false) {
            near.clear();
        }
    }

    /// Waits for a question that begins after this was called, and whose news are applied. `false`: it has failed.
    async fn caught_up(&self) -> bool {
        let next = self.begun.load(Ordering::SeqCst) + 1;
        let mut ended = self.ended.subscribe();
        self.wake.notify_one();
        ended.wait_for(|(number, _)| *number >= next).await.is_ok_and(|ended| ended.1)
    }

    /// Begins a question, before it is sent. Answers its number.
    #[cfg(feature = "redis")]
    pub(crate) fn begin(&self) -> u64 {
        begin(&self.begun)
    }

    /// Ends the waiting for this question.
    pub(crate) fn end(&self, number: u64, applied: bool) {
        self.ended.send_replace((number, applied));
    }
}

/// Begins a question that is counted by this, before it is sent. Answers its number.
pub(crate) fn begin(begun: &AtomicU64) -> u64 {
    begun.fetch_add(1, Ordering::SeqCst) + 1
}

/// Ends the future at that time. Callers may be in no runtime: then the timer is one of `home`.
pub(crate) fn in_time<F: Future>(home: &Handle, until: Instant, future: F) -> Timeout<F> {
    let _home = Handle::try_current().is_err().then(|| home.enter());
    timeout_at(until, future)
}
