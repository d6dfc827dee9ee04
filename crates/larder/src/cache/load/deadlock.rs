//! Loads that wait for other loads: a loader may call `get_or_load` itself, and two loaders that wait for each other would never end.

use parking_lot::Mutex;
use std::sync::Arc;

tokio::task_local! {
    /// The dependencies of the load whose loader runs in this task.
    pub(super) static LOADING: Arc<Dependencies>;
}

/// The loads that a load waits for, because its loader has called `get_or_load` itself.
#[derive(Default)]
pub(super) struct Dependencies {
    loads: Mutex<Vec<Arc<Dependencies>>>,
}

/// Held while a caller checks whether its wait would close a circle, and begins the wait. Only calls from loaders take it.
static CHECK: Mutex<()> = Mutex::new(());

impl Dependencies {
    /// Makes this load depend on `load` as well: the load of one of several keys depends on the load of all of them.
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

/// The wait of a loader for another load. Dropping it ends the wait.
pub(super) struct Waiting(Option<(Arc<Dependencies>, Arc<Dependencies>)>);

impl Waiting {
    /// An error if that load waits, directly or through others, for the load whose loader asks.
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
