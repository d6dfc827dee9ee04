//! Loads that wait for loads: a loader may call `get_or_load` itself, and two that wait for each other would never end.

use parking_lot::Mutex;
use std::sync::Arc;

tokio::task_local! {
    /// What the load whose loader runs in this task waits for.
    pub(super) static LOADING: Arc<Dependencies>;
}

/// Which loads a load is waiting for, because its loader has called `get_or_load` itself.
#[derive(Default)]
pub(super) struct Dependencies {
    loads: Mutex<Vec<Arc<Dependencies>>>,
}

/// Held by whoever looks whether a wait would go round in a circle, and then begins it. Outside loaders nobody takes it.
static CHECK: Mutex<()> = Mutex::new(());

impl Dependencies {
    /// From here on, whoever waits for this load waits for that one, too: this is one of several keys that are loaded together.
    pub(super) fn add(&self, load: &Arc<Self>) {
        self.loads.lock().push(load.clone());
    }

    fn waits_for(&self, other: &Arc<Self>) -> bool {
        let mut open = self.loads.lock().clone();
        let mut seen = Vec::new();
        while let Some(load) = open.pop() {
            if Arc::ptr_eq(&load, other) {
                return true;
            }
            if !seen.contains(&Arc::as_ptr(&load)) {
                seen.push(Arc::as_ptr(&load));
                open.extend(load.loads.lock().iter().cloned());
            }
        }
        false
    }
}

/// A loader's wait for another load, while it lasts.
pub(super) struct Waiting(Option<(Arc<Dependencies>, Arc<Dependencies>)>);

impl Waiting {
    /// An error where that load waits for the one whose loader asks.
    pub(super) fn begin(load: &Arc<Dependencies>) -> Result<Self, ()> {
        let Ok(own) = LOADING.try_with(Arc::clone) else { return Ok(Self(None)) };
        let _check = CHECK.lock();
        if Arc::ptr_eq(&own, load) || load.waits_for(&own) {
            return Err(());
        }
        own.add(load);
        Ok(Self(Some((own, load.clone()))))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((own, load)) = self.0.take() {
            let mut loads = own.loads.lock();
            if let Some(place) = loads.iter().position(|other| Arc::ptr_eq(other, &load)) {
                loads.swap_remove(place);
            }
        }
    }
}
