//! [`Applying`]: the task of one cache that follows a feed. It applies what each poll brings, and opens the cache's gate.
//!
//! # What it knows
//!
//! *Known up to P, on connection C* means: every change that P sees was applied to what the connector reads on C, or everything that
//! was stored there before the change's commit was removed. Fills that are older are refused from then on: the contract says so of an invalidation and of a truncate.
//!
//! A poll brings the changes between two positions, F and P. A cache that is known up to F, or further, is known up to P once they are applied. So nothing depends
//! on the order of this task and the one that polls. A cache that has missed polls *catches up*: one more poll, from where it is known. In all other
//! cases the cache *joins*: at the start, when something could not be applied, and when the connector has another connection. For then it may read
//! another server, to which this node has applied nothing.
//!
//! # Joining
//!
//! On a server that keeps a [place](crate::contract::Place), every change that the place sees was applied. So a poll from the place brings all the others, and the cache
//! is known up to that poll. Without a place, or where the database no longer has the changes since the place, the cache is truncated: it is known up
//! to the position of a poll that ended before. A cache in memory has no place, and begins empty.
//!
//! # Sharing the work
//!
//! Before changes are applied, the place is read. What it sees was applied by another node. When the rest is applied, the place is set. Two nodes
//! that do so at once apply a change twice, which forgets no more than once. A place that goes back in time by that is still true.

use super::follower::Follower;
use super::poll::{self, Change, Polled};
use super::position::Position;
use crate::clock::Clock;
use crate::connector::postgres::Postgres;
use crate::contract::{Delivery, KeyBuf};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// How many polls a node without a place lets pass at most before it truncates. Nodes that begin at the same time draw different numbers, so
/// that most of them find the place of the first one.
const PATIENCE: u8 = 8;

/// A poll, for all caches that follow.
pub(super) struct Batch {
    /// In the order in which they began.
    pub(super) number: u64,
    /// When it began, in ms of the clock.
    pub(super) began: u64,
    /// `None`: nobody knows what came before.
    pub(super) from: Option<Position>,
    pub(super) polled: Polled,
    /// The caches that it asked for.
    pub(super) caches: Vec<String>,
}

/// What is known: up to where, and on which connection.
struct Known {
    position: Position,
    connection: u64,
}

/// The task of one cache.
pub(super) struct Applying {
    follower: Arc<Follower>,
    postgres: Postgres,
    clock: Clock,
    known: Option<Known>,
    /// Up to where changes were trimmed when the place was last looked at, and the position at that time.
    looked: Option<(Position, Position)>,
    /// How many polls are let pass before a truncate.
    patience: Option<u8>,
}

impl Applying {
    pub(super) fn new(follower: Arc<Follower>, postgres: Postgres) -> Self {
        Self { follower, postgres, clock: Clock::system(), known: None, looked: None, patience: None }
    }

    /// Runs until the polls end.
    ///
    /// # Cancellation
    ///
    /// What was being applied is in the connector's journal, or was not begun. The place does not tell of it, so other nodes apply it.
    pub(super) async fn run(mut self, mut polls: Receiver<Arc<Batch>>) {
        loop {
            match polls.recv().await {
                Ok(batch) => self.take(&batch).await,
                // Too slow: what was missed shows as a gap.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn take(&mut self, batch: &Batch) {
        if !batch.caches.iter().any(|cache| *cache == self.follower.schema.cache()) {
            return;
        }
        let connection = self.follower.connector.connection();
        let (known, began) = match self.known.take().filter(|known| known.connection == connection) {
            Some(known) if batch.from.as_ref().is_some_and(|from| known.position.covers(from)) => {
                (self.advance(known, batch).await, batch.began)
            }
            Some(known) => self.catch_up(known, batch).await,
            None => self.join(batch).await,
        };
        if let Some(known) = &known {
            let deadline = u64::try_from(self.follower.deadline.as_millis()).unwrap_or(u64::MAX);
            self.follower.gate.open(known.connection, began.saturating_add(deadline));
            self.patience = None;
        }
        self.known = known;
    }

    /// Applies what the poll has brought. `None`: the cache must join anew.
    async fn advance(&mut self, known: Known, batch: &Batch) -> Option<Known> {
        let polled = &batch.polled;
        let news: Vec<&Change> =
            self.of_this_cache(&polled.changes).filter(|change| !known.position.sees(change.xid)).collect();
        let position = known.position.or_later(&polled.position);
        let connection = known.connection;
        // A place that is never set anew is trimmed some day. While nothing changes, one node in a minute sets it.
        let before = match &self.looked {
            Some((trimmed, before)) if polled.trimmed != *trimmed => Some(before.clone()),
            _ => None,
        };
        if !news.is_empty() || before.is_some() {
            let place = self.follower.connector.place().await?;
            if place.connection != connection {
                return None;
            }
            let place = place.bytes.as_deref().and_then(Position::from_bytes).filter(|at| at.epoch == position.epoch);
            let news: Vec<&Change> =
                news.into_iter().filter(|change| !place.as_ref().is_some_and(|place| place.sees(change.xid))).collect();
            let aged = before.is_some_and(|before| !place.as_ref().is_some_and(|place| place.covers(&before)));
            if !news.is_empty() || aged {
                self.apply(&news, connection).await?;
                self.follower.connector.set_place(position.to_bytes(), connection).await;
            }
        }
        if self.looked.as_ref().is_none_or(|(trimmed, _)| polled.trimmed != *trimmed) {
            self.looked = Some((polled.trimmed.clone(), position.clone()));
        }
        Some(Known { position, connection })
    }

    /// Finds out what the server behind the connector has missed, and when the poll began that tells it.
    async fn join(&mut self, batch: &Batch) -> (Option<Known>, u64) {
        let Some(place) = self.follower.connector.place().await else { return (None, batch.began) };
        let connection = place.connection;
        match place.bytes.as_deref().and_then(Position::from_bytes) {
            Some(position) => self.catch_up(Known { position, connection }, batch).await,
            None => (self.begin_anew(batch, connection).await, batch.began),
        }
    }

    /// Polls what has changed since the cache was known, for this cache alone.
    async fn catch_up(&mut self, known: Known, batch: &Batch) -> (Option<Known>, u64) {
        let (follower, began) = (self.follower.clone(), self.clock.now());
        let Known { position: from, connection } = known;
        if from.epoch != batch.polled.position.epoch {
            return (self.begin_anew(batch, connection).await, batch.began);
        }
        match poll::poll(&self.postgres, &from, &[follower.schema.cache()], false).await {
            Ok(Some(Polled { position, changes, .. })) => {
                let news: Vec<&Change> = self.of_this_cache(&changes).collect();
                if self.apply(&news, connection).await.is_none() {
                    return (None, began);
                }
                if position != from {
                    follower.connector.set_place(position.to_bytes(), connection).await;
                }
                (Some(Known { position, connection }), began)
            }
            // The database no longer has everything since then.
            Ok(None) => (self.begin_anew(batch, connection).await, batch.began),
            Err(error) => {
                tracing::debug!(cache = %follower.schema.cache(), %error, "the cache does not follow the feed yet");
                (None, began)
            }
        }
    }

    /// Begins with an empty cache.
    async fn begin_anew(&mut self, batch: &Batch, connection: u64) -> Option<Known> {
        let follower = &*self.follower;
        if follower.is_shared() {
            let patience = self.patience.get_or_insert_with(|| fastrand::u8(..PATIENCE));
            if *patience > 0 {
                *patience -= 1;
                return None;
            }
            tracing::info!(
                cache = %follower.schema.cache(),
                "nobody can say which changes were applied to the cache (it is new, or no node has followed the feed for long, or the database was restarted): clearing it"
            );
        }
        let position = batch.polled.position.clone();
        let truncated = follower.connector.truncate().await;
        if !matches!(truncated, Ok(Delivery::Applied)) || follower.connector.connection() != connection {
            return None;
        }
        follower.connector.set_place(position.to_bytes(), connection).await;
        Some(Known { position, connection })
    }

    /// The changes that this cache has not applied itself.
    fn of_this_cache<'a>(&self, changes: &'a [Change]) -> impl Iterator<Item = &'a Change> + use<'a, '_> {
        let follower = &*self.follower;
        changes.iter().filter(|change| {
            change.cache == follower.schema.cache() && (change.origin.is_none() || change.origin != follower.origin)
        })
    }

    /// Applies changes. `None`: not all of them are applied on this connection.
    async fn apply(&self, changes: &[&Change], connection: u64) -> Option<()> {
        let follower = &*self.follower;
        if changes.is_empty() {
            return Some(());
        }
        let mut keys = HashSet::new();
        let mut everything = false;
        for change in changes {
            let index = change.index.as_deref().map(|name| follower.schema.indexes.iter().position(|it| *it == name));
            match (index, &change.keys) {
                (Some(Some(index)), Some(bytes)) => {
                    let index = u8::try_from(index).ok()?;
                    let possible = bytes.iter().filter(|bytes| crate::key::check(bytes).is_ok());
                    keys.extend(possible.map(|bytes| (index, &**bytes)));
                }
                // The whole cache; or an index that this release does not know, which may lead to any object.
                _ => everything = true,
            }
        }
        let forgotten = if everything {
            follower.connector.truncate().await
        } else if keys.is_empty() {
            return Some(());
        } else {
            let keys = keys.into_iter().map(|(index, bytes)| KeyBuf { index, bytes: bytes.into() });
            follower.connector.invalidate(keys.collect(), None).await
        };
        (matches!(forgotten, Ok(Delivery::Applied)) && follower.connector.connection() == connection).then_some(())
    }
}

impl Follower {
    /// Whether other nodes use what the connector keeps.
    fn is_shared(&self) -> bool {
        self.origin.is_none()
    }
}
