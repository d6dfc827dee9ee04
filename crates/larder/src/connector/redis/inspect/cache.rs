//! [`InspectedCache`]: one cache, by its name alone.

use super::server::Server;
use super::{ClockState, InspectError, Placement, Progress};
use crate::connector::redis::layout::Layout;
use crate::connector::redis::options::Address;
use crate::connector::redis::scripts;
use crate::connector::redis::single::clearing;
use crate::connector::redis::wire::caller::Caller;
use crate::connector::redis::wire::replies::unexpected;
use crate::connector::remote::{BATCH, Clearing};
use crate::contract::Following;
use redis::{Cmd, Value};
use std::sync::Arc;
use tokio::time::sleep;

/// One cache on the server of an [`Inspector`](super::Inspector), or on the primary of a cluster that has its slot.
///
/// The connection is closed when the last cache and index that use it, and on one server the inspector, are dropped. In a cluster, a slot that
/// moves to another node meanwhile makes every call an error that says so. Get the cache from the inspector again.
#[derive(Debug)]
pub struct InspectedCache {
    pub(super) server: Arc<Server>,
    pub(super) name: String,
    pub(super) layout: Layout,
    placement: Option<Placement>,
}

impl InspectedCache {
    /// `base` is what the names of all keys of the cache begin with.
    pub(super) fn new(server: Arc<Server>, name: &str, placement: Option<Placement>, base: String) -> Self {
        Self { server, name: name.to_owned(), layout: Layout::without_schema(base, ""), placement }
    }

    /// The name of the cache, as its services write it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// In a cluster: the slot of the cache, and the primary that has it.
    #[must_use]
    pub fn placement(&self) -> Option<&Placement> {
        self.placement.as_ref()
    }

    /// Where the server is that the cache is on: the configured address; with Sentinels, the master that they named when the inspector
    /// connected; in a cluster, the primary that has the slot of the cache.
    #[must_use]
    pub fn primary(&self) -> &Address {
        self.server.address()
    }

    /// How many keys the database of the cache's server holds, of larder and of others. `None`: the server does not let the user ask.
    ///
    /// # Errors
    ///
    /// [`InspectError::Server`].
    pub async fn database_size(&self) -> Result<Option<u64>, InspectError> {
        self.server.database_size().await
    }

    /// Forgets everything in the cache. `progress` is called with the number of keys that were removed so far. A damaged clock is
    /// replaced by a new one.
    ///
    /// # Errors
    ///
    /// [`InspectError::ForeignClock`]: nothing was done. [`InspectError::Server`].
    ///
    /// # Cancellation
    ///
    /// A truncate that has begun refuses all loads that began before. If it is dropped half-way, a service finds it unfinished and
    /// finishes it. An object is served until it is removed.
    pub async fn truncate(&self, mut progress: impl FnMut(Progress)) -> Result<(), InspectError> {
        let history = self.server.history();
        let clock = loop {
            let clearing = match self.clock().await {
                Err(InspectError::DamagedClock { .. }) => {
                    self.server.call(redis::cmd("UNLINK").arg(self.layout.clock())).await?;
                    Clearing::Doubted { epoch: 0, anew: false, seen: 0 }
                }
                clock => match clock? {
                    Some(clock) if clock.of_this_history != Some(false) => Clearing::Truncate,
                    // As a service that connects would find it.
                    found => Clearing::Doubted { epoch: found.map_or(0, |clock| clock.epoch), anew: false, seen: 0 },
                },
            };
            let removed = |removed| progress(Progress { found: removed, removed, primary: None });
            let cleared = clearing::clear(&self.server.caller(), &self.layout, history, clearing, None, removed).await;
            match cleared.map_err(|trouble| self.server.error(&trouble))? {
                // The server has lost the clock meanwhile.
                Some(clock) if clock.epoch == 0 => {}
                clock => break clock,
            }
        };
        self.server.confirm().await?;
        // Nodes may keep the cache in their own memory.
        sleep(Following::wait_after(clock.map_or(0, |clock| clock.epoch))).await;
        Ok(())
    }

    /// Removes index keys that lead to no object which lists them.
    ///
    /// # Errors
    ///
    /// [`InspectError::Lost`], [`InspectError::Server`].
    ///
    /// # Cancellation
    ///
    /// Index keys that were removed stay removed. Nothing else is lost.
    pub async fn prune(&self, mut progress: impl FnMut(Progress)) -> Result<Progress, InspectError> {
        // Without a clock nobody knows which objects there are. The next service that finds this clears the cache.
        match self.clock().await? {
            Some(clock) if clock.state != ClockState::Lost => {}
            _ => return Err(InspectError::Lost { cache: self.name.clone() }),
        }
        let (clock, objects) = (self.layout.clock(), self.layout.object_prefix());
        let mut so_far = Progress::default();
        self.server
            .walk(&self.layout.index_keys(), async |keys| {
                for batch in keys.chunks(BATCH) {
                    let arguments = |call: &mut Cmd| {
                        call.arg(1 + batch.len()).arg(&clock).arg(batch).arg(&objects).arg(self.layout.before_index());
                    };
                    let reply = self.server.caller().script(&scripts::PRUNE, arguments).await;
                    match reply.map_err(|trouble| self.server.error(&trouble))? {
                        Value::Int(removed) => so_far.removed += u64::try_from(removed).unwrap_or(0),
                        _ => return Err(self.server.error(&unexpected("prune.lua"))),
                    }
                    so_far.found += batch.len() as u64;
                }
                progress(so_far);
                Ok(())
            })
            .await?;
        Ok(so_far)
    }

    /// Whether the cache has objects or index keys.
    pub(super) async fn has_keys(&self) -> Result<bool, InspectError> {
        let mut found = false;
        self.server
            .walk(&self.layout.objects_and_index_keys(), async |names| {
                found |= !names.is_empty();
                Ok(())
            })
            .await?;
        Ok(found)
    }
}
