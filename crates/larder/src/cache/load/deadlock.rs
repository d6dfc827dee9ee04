//! Loads that wait for loads: a loader may call `get_or_load` itself, and two that wait for each other would never end.

use parking_lot::Mutex;
use std::sync::Arc;

tokio::task_local! {
    /// The load whose loader runs in this task.
    pub(super) static LOADING: Arc<Queue>;
}

/// Which loads a load is waiting for, because its loader has called `get_or_load` itself.
#[derive(Default)]
pub(super) struct Queue {
    ahead: Mutex<Vec<Arc<Queue>>>,
}

/// Held by whoever looks whether a wait would go round in a circle, and then begins it. Outside loaders nobody takes it.
static QUEUES: Mutex<()> = Mutex::new(());

impl Queue {
    /// From here on, whoever waits for this waits for that load, too: it is one of several keys that are loaded together.
    pub(super) fn join(&self, load: &Arc<Self>) {
        self.ahead.lock().push(load.clone());
    }

    fn waits_for(&self, other: &Arc<Self>) -> bool {
        let mut open = self.ahead.lock().clone();
        let mut seen = Vec::new();
        while let Some(queue) = open.pop() {
            if Arc::ptr_eq(&queue, other) {
                return true;
            }
            if !seen.contains(&Arc::as_ptr(&queue)) {
                seen.push(Arc::as_ptr(&queue));
                open.extend(queue.ahead.lock().iter().cloned());
            }
        }
        false
    }
}

/// A loader's wait for another load, while it lasts.
pub(super) struct Waiting(Option<(Arc<Queue>, Arc<Queue>)>);

impl Waiting {
    /// An error where that load waits for the one whose loader asks.
    pub(super) fn begin(load: &Arc<Queue>) -> Result<Self, ()> {
        let Ok(own) = LOADING.try_with(Arc::clone) else { return Ok(Self(None)) };
        let _queues = QUEUES.lock();
        if Arc::ptr_eq(&own, load) || load.waits_for(&own) {
            return Err(());
        }
        own.ahead.lock().push(load.clone());
        Ok(Self(Some((own, load.clone()))))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((own, load)) = self.0.take() {
            let mut ahead = own.ahead.lock();
            if let Some(place) = ahead.iter().position(|other| Arc::ptr_eq(other, &load)) {
                ahead.swap_remove(place);
            }
        }
    }
}
