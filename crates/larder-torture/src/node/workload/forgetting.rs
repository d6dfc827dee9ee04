//! The calls that make the cache forget, most of them because of a change, and their outcomes.

use super::super::callers::Patience;
use super::objects::{Edit, HOSTS, POLICIES, instance_key, own, shared};
use super::{Desk, Written, lock};
use crate::checker::STEADY;
use crate::objects::{By, Instance, Key, Kind, Policy, State, Subject};
use crate::protocol::{Call, Event, Forgotten, Led, Outcome, SET, Store, now};
use crate::source::{Change, SourceError};
use larder::{Delivery, Error, Stored};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A call that makes the cache forget, and its reason.
pub(super) struct Wish {
    pub(super) call: Call,
    pub(super) kind: Kind,
    /// Empty: everything in the cache.
    pub(super) keys: Vec<Key>,
    /// The number of the change that is the reason. 0: no change.
    pub(super) sequence: u64,
}

impl Wish {
    fn of_instances(call: Call, keys: Vec<Key>, sequence: u64) -> Self {
        Self { call, kind: Kind::Instance, keys, sequence }
    }
}

impl Desk {
    /// Waits for a call that makes the cache forget, and records its outcome.
    async fn forget(&self, wish: Wish, patience: Patience, call: impl Future<Output = Result<Delivery, Error>>) {
        let begun = now();
        let answer = patience.wait(call).await;
        self.took("invalidate", begun);
        let outcome = match answer {
            Some(Ok(Delivery::Applied)) => Outcome::Applied,
            Some(Ok(Delivery::Deferred)) => Outcome::Deferred,
            // Only for keys that cannot exist.
            Some(Err(_)) => return,
            None => {
                self.recorder.dropped();
                Outcome::Dropped
            }
        };
        self.forgot(wish, begun, outcome, None);
    }

    pub(super) fn forgot(&self, wish: Wish, begun: u64, outcome: Outcome, led: Option<Led>) {
        let Wish { call, kind, keys, sequence } = wish;
        self.recorder
            .record(|ended| Event::Forgotten(Forgotten { call, kind, keys, sequence, begun, ended, outcome, led }));
    }

    /// Makes a change, and invalidates it in one of several ways.
    pub(super) async fn change(&self, rng: &mut fastrand::Rng, patience: Patience) {
        let (number, edit) = (shared(rng), Edit::random(rng));
        let way = rng.u32(..if matches!(self.setup.store, Store::Postgres { .. }) { 7 } else { 5 });
        let Ok(change) = self.source.change(move |writing| edit.make(writing, number)).await else { return };
        self.invalidate(&change, way, rng, patience).await;
    }

    /// Changes several objects, and invalidates them in one call.
    pub(super) async fn change_several(&self, rng: &mut fastrand::Rng, patience: Patience) {
        let edits: Vec<(u32, Edit)> = (0..rng.u32(2..6)).map(|_| (shared(rng), Edit::random(rng))).collect();
        let changed =
            self.source.change(move |writing| edits.iter().try_for_each(|(number, edit)| edit.make(writing, *number)));
        let Ok(change) = changed.await else { return };
        self.invalidate_many(&change, rng, patience).await;
    }

    async fn invalidate(&self, change: &Change, way: u32, rng: &mut fastrand::Rng, patience: Patience) {
        let cache = &self.caches.instances;
        let sequence = change.sequence;
        let by_primary = self.by_primary.load(Ordering::Relaxed);
        let by_hosts =
            change.touched.iter().all(|(before, _)| before.as_ref().is_some_and(|state| !state.hosts.is_empty()));
        let by = match way {
            1 if !by_primary => By::Serial,
            2 if !by_primary && by_hosts => By::Host,
            3 => return self.invalidate_change(change, patience).await,
            4 => return self.invalidate_many(change, rng, patience).await,
            5.. => return self.invalidate_in_sql(change, rng).await,
            _ => By::Id,
        };
        let keys = keys_of(change, |key| key.by == by);
        let call = cache.invalidate(Instance::index(by), keys.clone());
        self.forget(Wish::of_instances(Call::Invalidate, keys, sequence), patience, call).await;
    }

    async fn invalidate_change(&self, change: &Change, patience: Patience) {
        for (before, after) in &change.touched {
            let (before, after) = (before.as_ref().or(after.as_ref()), after.as_ref().or(before.as_ref()));
            let (Some(before), Some(after)) = (before, after) else { continue };
            let (old, new) = (Instance::new(before, 0, 0), Instance::new(after, 0, 0));
            let mut keys: Vec<Key> = before.keys().chain(after.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            let call = self.caches.instances.invalidate_change(&old, &new);
            let wish = Wish::of_instances(Call::InvalidateChange, keys, change.sequence);
            self.forget(wish, patience, call).await;
        }
    }

    /// Invalidates each object through a random index.
    async fn invalidate_many(&self, change: &Change, rng: &mut fastrand::Rng, patience: Patience) {
        let by_primary = self.by_primary.load(Ordering::Relaxed);
        let mut keys = Vec::new();
        for (before, after) in &change.touched {
            let has_hosts = before.as_ref().is_some_and(|before| !before.hosts.is_empty());
            let by = match rng.u32(..3) {
                1 if !by_primary => By::Serial,
                2 if !by_primary && has_hosts => By::Host,
                _ => By::Id,
            };
            keys.extend(before.iter().chain(after).flat_map(State::keys).filter(|key| key.by == by));
        }
        keys.sort_unstable();
        keys.dedup();
        rng.shuffle(&mut keys);
        let call = self.caches.instances.invalidate_many(keys.iter().map(|key| Instance::index(key.by).key(key)));
        self.forget(Wish::of_instances(Call::InvalidateMany, keys.clone(), change.sequence), patience, call).await;
    }

    /// Invalidates an object that has not changed.
    pub(super) async fn invalidate_without_change(&self, rng: &mut fastrand::Rng, patience: Patience) {
        let key = match self.by_primary.load(Ordering::Relaxed) {
            true => Key::id(Kind::Instance, shared(rng)),
            false => instance_key(&self.setup, rng),
        };
        let call = self.caches.instances.invalidate(Instance::index(key.by), [key]);
        self.forget(Wish::of_instances(Call::Invalidate, vec![key], 0), patience, call).await;
    }

    pub(super) async fn update(&self, rng: &mut fastrand::Rng, patience: Patience) {
        let number = shared(rng);
        // An update returns the object, so it cannot delete it.
        let edit = if rng.bool() { Edit::Touch } else { Edit::Toggle(rng.u32(..HOSTS)) };
        let written = Written::default();
        let (source, node, note) = (self.source.clone(), self.setup.node, written.clone());
        let delay = Duration::from_millis(rng.u64(..20));
        let call = self.caches.instances.update(async move {
            let change = source.change(move |writing| edit.make(writing, number)).await?;
            let state = change.touched.into_iter().filter_map(|(_, after)| after).find(|state| state.number == number);
            let state = state.ok_or(SourceError::Closed)?;
            let born = now();
            *lock(&note) = Some((state.clone(), born));
            tokio::time::sleep(delay).await;
            Ok::<_, SourceError>(Instance::new(&state, born, node))
        });
        if patience.wait(call).await.is_none() {
            self.recorder.dropped();
            lock(&self.detached).push(written);
            return;
        }
        if let Some((state, begun)) = lock(&written).take() {
            self.updated(&state, begun);
        }
    }

    /// Records an update as deferred: its answer does not say whether it was delivered.
    pub(super) fn updated(&self, state: &State, begun: u64) {
        let wish = Wish::of_instances(Call::Update, state.keys().collect(), state.sequence);
        self.forgot(wish, begun, Outcome::Deferred, None);
    }

    /// Sets instances that only this task changes: a plain set cannot know that its value was overtaken before the set began.
    pub(super) async fn set(&self, task: u32, rng: &mut fastrand::Rng, patience: Patience) {
        let several = rng.bool();
        let mut numbers: Vec<u32> = own(self.setup.place, task).collect();
        rng.shuffle(&mut numbers);
        numbers.truncate(if several { rng.usize(2..=numbers.len().max(2)) } else { 1 });
        let changed = self
            .source
            .change(move |writing| numbers.iter().try_for_each(|number| Edit::ToggleItsOwn.make(writing, *number)));
        let Ok(change) = changed.await else { return };
        let states: Vec<State> = change.touched.into_iter().filter_map(|(_, after)| after).collect();
        let begun = now();
        let objects: Vec<Instance> = states.iter().map(|state| Instance::new(state, SET, self.setup.node)).collect();
        let name = if several { Call::SetMany } else { Call::Set };
        let stored: Option<Vec<Stored>> = if several {
            patience.wait(self.caches.instances.set_many(objects)).await
        } else {
            match objects.into_iter().next() {
                Some(object) => patience.wait(self.caches.instances.set(object)).await.map(|stored| vec![stored]),
                None => return,
            }
        };
        self.took(if several { "set_many" } else { "set" }, begun);
        if stored.is_none() {
            self.recorder.dropped();
        }
        for (place, state) in states.iter().enumerate() {
            let outcome = match stored.as_ref().map(|stored| stored.get(place)) {
                Some(Some(Stored::Unavailable)) => Outcome::Deferred,
                Some(Some(_)) => Outcome::Applied,
                Some(None) => {
                    let what = format!("{} objects were set, and {place} answered", states.len());
                    self.recorder.record(|at| Event::Broken { at, key: Key::id(Kind::Instance, state.number), what });
                    return;
                }
                None => Outcome::Dropped,
            };
            // The new state lists the primary key. So the call also ends the earlier state under keys that the new state does not list.
            self.forgot(Wish::of_instances(name, state.keys().collect(), state.sequence), begun, outcome, None);
        }
    }

    pub(super) async fn delete(&self, key: Key, patience: Patience) {
        let call = self.caches.instances.delete(Instance::index(key.by), [key]);
        self.forget(Wish::of_instances(Call::Delete, vec![key], 0), patience, call).await;
    }

    /// Changes several objects, and truncates the cache.
    pub(super) async fn truncate(&self, rng: &mut fastrand::Rng, patience: Patience) {
        let mut numbers: Vec<u32> = (0..12).map(|_| shared(rng)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let changed =
            self.source.change(move |writing| numbers.iter().try_for_each(|number| Edit::Touch.make(writing, *number)));
        let Ok(change) = changed.await else { return };
        let call = self.caches.instances.truncate();
        self.forget(Wish::of_instances(Call::Truncate, Vec::new(), change.sequence), patience, call).await;
    }

    pub(super) async fn change_policy(&self, rng: &mut fastrand::Rng, patience: Patience) {
        let number = rng.u32(..POLICIES);
        let Ok(change) = self.source.change(move |writing| writing.write(Kind::Policy, number, Vec::new())).await
        else {
            return;
        };
        if number < STEADY {
            return;
        }
        let (key, version) = (Key::id(Kind::Policy, number), change.sequence);
        let call = self.caches.policies.invalidate_below(Policy::index(key.by), [key], version);
        let wish =
            Wish { call: Call::InvalidateBelow(version), kind: Kind::Policy, keys: vec![key], sequence: version };
        self.forget(wish, patience, call).await;
    }
}

/// The wanted keys of all states before and after a change, each once.
fn keys_of(change: &Change, wanted: impl Fn(&Key) -> bool) -> Vec<Key> {
    let states = change.touched.iter().flat_map(|(before, after)| before.iter().chain(after));
    let mut keys: Vec<Key> = states.flat_map(State::keys).filter(wanted).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}
