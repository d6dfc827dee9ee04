//! The calls that read, and their answers.

use super::super::callers::Patience;
use super::Desk;
use super::objects::NOBODY;
use crate::objects::{By, Key, Kind, Policy, Subject};
use crate::protocol::{Through, now};
use crate::source::{Source, SourceError};
use larder::{Cache, Lookup};
use std::time::Duration;

/// How slow a load is, and how stale its source.
#[derive(Clone, Copy, Debug)]
pub(in crate::node) struct Pace {
    /// How long the load takes after it has read the source.
    delay: Duration,
    /// How many changes of the object the replica is behind.
    behind: u32,
}

impl Pace {
    pub(in crate::node) fn random(rng: &mut fastrand::Rng) -> Self {
        let delay = match rng.u32(..100) {
            0..50 => rng.u64(0..3),
            50..90 => rng.u64(3..60),
            90..99 => rng.u64(60..400),
            // Longer than an outage.
            _ => rng.u64(400..2_500),
        };
        Self::with(Duration::from_millis(delay), rng)
    }

    /// Most loads are quick.
    pub(in crate::node) fn brisk(rng: &mut fastrand::Rng) -> Self {
        if rng.u32(..50) == 0 {
            return Self::random(rng);
        }
        let delay = Duration::from_micros(if rng.bool() { 0 } else { rng.u64(..2_000) });
        Self::with(delay, rng)
    }

    pub(in crate::node) fn instant(rng: &mut fastrand::Rng) -> Self {
        Self::with(Duration::ZERO, rng)
    }

    fn with(delay: Duration, rng: &mut fastrand::Rng) -> Self {
        Self { delay, behind: if rng.bool() { 0 } else { rng.u32(1..6) } }
    }

    pub(in crate::node) async fn pass(self) {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
    }
}

impl Desk {
    /// Returns whether the get was a hit.
    pub(super) async fn get<E: Subject>(&self, cache: &Cache<E>, key: Key, patience: Patience) -> bool {
        let begun = now();
        let got = patience.wait(cache.get(E::index(key.by), key)).await;
        self.took("get", begun);
        let Some(got) = got else {
            self.recorder.dropped();
            return false;
        };
        if let Some(object) = &got {
            self.recorder.saw(Through::Get, begun, [(key, Some(&**object))]);
        }
        got.is_some()
    }

    /// Returns whether there was a hit. All keys must be of one index.
    pub(super) async fn get_many<E: Subject>(&self, cache: &Cache<E>, keys: &[Key], patience: Patience) -> bool {
        let Some(by) = keys.first().map(|key| key.by) else { return false };
        let begun = now();
        let got = patience.wait(cache.get_many(E::index(by), keys.iter().copied())).await;
        self.took("get_many", begun);
        let Some(got) = got else {
            self.recorder.dropped();
            return false;
        };
        self.recorder.count(keys, got.len());
        let hits = keys.iter().zip(&got).filter_map(|(key, object)| Some((*key, Some(&**object.as_ref()?))));
        self.recorder.saw(Through::GetMany, begun, hits);
        got.iter().any(Option::is_some)
    }

    pub(super) async fn get_or_load<E: Subject>(&self, cache: &Cache<E>, key: Key, patience: Patience, pace: Pace) {
        let begun = now();
        let (source, node) = (self.source.clone(), self.setup.node);
        let call = cache.get_or_load(E::index(key.by), key, move |key| load::<E>(source, node, key, pace));
        match patience.wait(call).await {
            Some(Ok(object)) => self.recorder.saw(Through::GetOrLoad, begun, [(key, object.as_deref())]),
            // SQLite may fail for a moment.
            Some(Err(_)) => {}
            None => self.recorder.dropped(),
        }
    }

    /// All keys must be of one index.
    pub(super) async fn load_many<E: Subject>(&self, cache: &Cache<E>, keys: &[Key], patience: Patience, pace: Pace) {
        let Some(by) = keys.first().map(|key| key.by) else { return };
        let begun = now();
        let (source, node) = (self.source.clone(), self.setup.node);
        let load = move |keys| load_many::<E>(source.clone(), node, keys, pace);
        let call = cache.load_many(E::index(by), keys.iter().copied(), load);
        match patience.wait(call).await {
            Some(Ok(objects)) => {
                self.recorder.count(keys, objects.len());
                let answers = keys.iter().zip(&objects).map(|(key, object)| (*key, object.as_deref()));
                self.recorder.saw(Through::LoadMany, begun, answers);
            }
            Some(Err(_)) => {}
            None => self.recorder.dropped(),
        }
    }

    pub(super) async fn look_up_and_fill<E: Subject>(
        &self,
        cache: &Cache<E>,
        key: Key,
        patience: Patience,
        pace: Pace,
    ) {
        let begun = now();
        let looked_up = patience.wait(cache.lookup(E::index(key.by), key)).await;
        self.took("lookup", begun);
        match looked_up {
            Some(Lookup::Hit { value: object, .. }) => {
                self.recorder.saw(Through::Lookup, begun, [(key, Some(&*object))])
            }
            Some(Lookup::Miss { ticket: Some(ticket), .. }) => {
                if let Ok(Some(object)) = load::<E>(self.source.clone(), self.setup.node, key, pace).await
                    && patience.wait(cache.fill(object, ticket)).await.is_none()
                {
                    self.recorder.dropped();
                }
            }
            Some(Lookup::Miss { ticket: None, .. }) => {}
            None => self.recorder.dropped(),
        }
    }

    /// Fills a policy even if it is stored: a lower version must not replace a higher one. The ticket comes from the miss of another key.
    pub(super) async fn refill(&self, key: Key, patience: Patience, pace: Pace) {
        let cache = &self.caches.policies;
        let nobody = Key::id(Kind::Policy, NOBODY);
        let Some(Lookup::Miss { ticket: Some(ticket), .. }) =
            patience.wait(cache.lookup(Policy::index(By::Id), nobody)).await
        else {
            return;
        };
        if let Ok(Some(policy)) = load::<Policy>(self.source.clone(), self.setup.node, key, pace).await
            && patience.wait(cache.fill(policy, ticket)).await.is_none()
        {
            self.recorder.dropped();
        }
    }
}

/// Reads the source, and returns after the delay of `pace`.
pub(super) async fn load<E: Subject>(
    source: Source,
    node: u32,
    key: Key,
    pace: Pace,
) -> Result<Option<E>, SourceError> {
    let born = now();
    let state = source.read(move |database| match E::KIND {
        Kind::Instance => database.find(key),
        Kind::Policy => database.find_on_replica(key, pace.behind),
    });
    let state = state.await?;
    pace.pass().await;
    Ok(state.map(|state| E::new(&state, born, node)))
}

/// As [`load`], for several keys at one moment of the source. An object that several keys lead to is returned once.
async fn load_many<E: Subject>(source: Source, node: u32, keys: Vec<Key>, pace: Pace) -> Result<Vec<E>, SourceError> {
    let born = now();
    let behind = match E::KIND {
        Kind::Instance => None,
        Kind::Policy => Some(pace.behind),
    };
    let states = source.read(move |database| database.find_many(&keys, behind)).await?;
    pace.pass().await;
    Ok(states.iter().map(|state| E::new(state, born, node)).collect())
}
