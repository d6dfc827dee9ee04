//! Loading several objects with one call of the loader.
//!
//! The rules are those of `load.rs`, applied to each key by itself. If a key is being loaded already, the call joins that load, and the
//! rules decide whether that load may answer for this key. The other missing keys become loads of this call, and other callers may join
//! each of them. These loads share one look, one call of the loader and one fill. Keys whose joined load could not answer share a second
//! call.

use crate::cache::Cache;
use crate::cache::load::LoadError;
use crate::cache::load::deadlock::{Dependencies, LOADING};
use crate::cache::load::single_flight::{Leader, Load, LoadId, Part, answers_late_joiner};
use crate::contract::{KeyBuf, KeyRef, LoadOptions, Miss, Ticket};
use crate::entry::{Entry, Index, Keys};
use crate::failure::{AsError, Failure};
use crate::key::{self, KeyFor};
use std::any::TypeId;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tracing::Instrument;

/// The largest number of keys without an object that are noted at the same time.
const AT_ONCE: usize = 64;

/// For each key its object, in the order of the keys.
type LoadedMany<E, Err> = Result<Vec<Option<Arc<E>>>, LoadError<Err>>;

/// A key whose load this call waits for: its place among the keys, and the load.
struct Awaited<E, Err> {
    place: usize,
    load: Arc<Load<E, Err>>,
    /// If the load had begun when this call joined it: the load after it.
    next: Option<Arc<Load<E, Err>>>,
}

/// The result of one look at several keys.
struct LookedAtMany {
    /// The ticket for the load of what is missing.
    ticket: Option<Ticket>,
    /// For each key its outcome. A key that was found by an earlier look is a hit.
    outcomes: Vec<Result<(), Miss>>,
}

/// A key that this call loads.
struct OwnLoad<E: Entry, Err: Send + Sync + 'static> {
    place: usize,
    leader: Leader<E, Err>,
}

impl<E: Entry> Cache<E> {
    /// Looks several objects up by keys of one index, and loads those that the cache does not have with one call of `loader`. Each key is
    /// handled as by [`get_or_load`](Self::get_or_load); the call takes as few round trips as [`get_many`](Self::get_many).
    ///
    /// `loader` gets the missing keys, each once, and returns the objects that it has found for them, in any order. An object belongs to
    /// the keys that it lists. A key that no object lists has no object. If there are such keys, and also objects that list none of the
    /// keys, these objects may have been meant for them: that is counted and warned of as for [`get_or_load`](Self::get_or_load). The
    /// result has the order of `keys`.
    ///
    /// A key that is being loaded already is not loaded again; this call waits for that load. If that load cannot answer, because it began
    /// before a change that this call has to see, `loader` is called a second time, for all such keys.
    ///
    /// ```
    /// # use larder::{Cache, Entry, Schema, connector::memory::{Memory, MemoryOptions}};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Serialize, Deserialize, Entry)]
    /// # #[entry(cache = "instance")]
    /// # struct Instance { #[key(primary)] id: u32, #[key(index = "host")] hosts: Vec<String> }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # let schema = Schema::of::<Instance>();
    /// # let instances: Cache<Instance> =
    /// #     Cache::new(std::sync::Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap()), schema).unwrap();
    /// let found = instances
    ///     .load_many(Instance::ID, [7, 8], |ids: Vec<u32>| async move {
    ///         // SELECT … WHERE id = ANY($1)
    ///         let rows = ids.into_iter().filter(|id| *id == 7);
    ///         Ok::<_, std::io::Error>(rows.map(|id| Instance { id, hosts: vec![] }).collect())
    ///     })
    ///     .await
    ///     .unwrap();
    /// assert_eq!(found[0].as_ref().unwrap().id, 7);
    /// assert!(found[1].is_none());
    /// # }
    /// ```
    ///
    /// Of [`LoadOptions`], `hard_timeout` limits the call as a whole, and `negative_age` and `jitter` work as for one key. A call for
    /// several keys takes no lease, loads nothing ahead of its time, and serves no expired object.
    ///
    /// # Errors
    ///
    /// The error of the first load that failed, whether this call began or joined that load. Objects that were found nevertheless are in
    /// the cache. As for one key, the next call loads again at once.
    ///
    /// # Cancellation
    ///
    /// A dropped call leaves its loads running, for the other callers and for the cache.
    pub async fn load_many<T, K, F, L, Err, Way>(
        &self,
        index: Index<E, T>,
        keys: impl IntoIterator<Item = K>,
        loader: F,
    ) -> LoadedMany<E, Err>
    where
        T: Send + 'static,
        K: KeyFor<T>,
        F: Fn(Vec<T>) -> L + Send + Sync + 'static,
        L: Future<Output = Result<Vec<E>, Err>> + Send + 'static,
        Err: AsError<Way>,
    {
        let keys: Vec<K> = keys.into_iter().collect();
        let loader = move |keys| {
            let load = loader(keys);
            async move { load.await.map_err(Failure::new) }
        };
        let LoadOptions { hard_timeout, .. } = self.inner.schema.loading;
        let loading = self.find_or_load_many(index, keys, Arc::new(loader));
        // Outside a runtime there are no timers, and nothing is loaded.
        if hard_timeout.is_zero() || Handle::try_current().is_err() {
            return loading.await;
        }
        tokio::time::timeout(hard_timeout, loading).await.unwrap_or_else(|_| {
            self.stats().load_timeouts.increment();
            Err(LoadError::TimedOut(hard_timeout))
        })
    }

    async fn find_or_load_many<T, K, F, L, Err>(
        &self,
        index: Index<E, T>,
        own: Vec<K>,
        loader: Arc<F>,
    ) -> LoadedMany<E, Err>
    where
        T: Send + 'static,
        K: KeyFor<T>,
        F: Fn(Vec<T>) -> L + Send + Sync + 'static,
        L: Future<Output = Result<Vec<E>, Failure<Err>>> + Send + 'static,
        Err: Send + Sync + 'static,
    {
        let Distinct { keys, firsts, places } = Distinct::of(index, &own);
        let mut found: Vec<Option<Option<Arc<E>>>> = vec![None; keys.len()];
        let mut looked_again = false;
        let (ticket, joined, mut parts) = loop {
            let finished = self.inner.loads.table.lock().finished;
            let LookedAtMany { ticket, outcomes } = self.look_for(&keys, &mut found).await;
            // A connector that does not know every change yet may give a ticket all the same. Such a ticket does not say that a load under way knows
            // them.
            let joined = ticket.filter(|_| !outcomes.contains(&Err(Miss::Distrusted)));
            if !looked_again {
                let asked = places.iter().filter_map(|place| outcomes.get(*place));
                asked.for_each(|outcome| self.stats().looked(*outcome));
            }
            let missing: Vec<usize> = (0..keys.len()).filter(|place| matches!(found.get(*place), Some(None))).collect();
            match self.join_or_lead_many(&keys, &missing, finished, looked_again) {
                Some(parts) => break (ticket, joined, parts),
                None => looked_again = true,
            }
        };
        // The second round is for keys whose load could not answer. They wait for the next load, so no third round is needed.
        for round in 0..2 {
            let (mut awaited, mut led) = (Vec::new(), Vec::new());
            for (place, part) in parts {
                match part {
                    Part::Lead(leader) => {
                        awaited.push(Awaited { place, load: leader.load.clone(), next: None });
                        led.push(OwnLoad { place, leader });
                    }
                    Part::Early(load) => {
                        self.stats().joined.increment();
                        awaited.push(Awaited { place, load, next: None });
                    }
                    Part::Late(load) => {
                        self.stats().joined.increment();
                        // Take the next load before waiting: a later caller must not lead it without this one.
                        let next = Some(load.next());
                        awaited.push(Awaited { place, load, next });
                    }
                    Part::LookAgain => {}
                }
            }
            let owned = |led: &OwnLoad<E, Err>| Some(own.get(*firsts.get(led.place)?)?.to_owned_key());
            let wanted: Vec<_> = led.iter().map(owned).collect();
            let led = led.into_iter().zip(wanted).filter_map(|(led, key)| Some((led.leader, key?)));
            // In the second round, or without a ticket, the load looks again before it calls the loader.
            self.start_many(led.collect(), ticket.filter(|_| round == 0), loader.clone())?;
            let mut again = Vec::new();
            for Awaited { place, load, next } in awaited {
                let finished = load.end().await;
                let failed = matches!(finished.loaded, Err(LoadError::Failed(_) | LoadError::Circular));
                match next {
                    Some(next) if !failed && !answers_late_joiner(finished.accepted, joined) => {
                        again.push((place, next))
                    }
                    _ => set(&mut found, place, finished.loaded?),
                }
            }
            let again = again.into_iter().filter_map(|(place, load)| Some((place, load, keys.get(place)?.clone())));
            parts = again.map(|(place, load, key)| (place, self.join_next(load, (key, TypeId::of::<Err>())))).collect();
            if parts.is_empty() {
                break;
            }
        }
        Ok(places.into_iter().map(|place| found.get(place).cloned().flatten().flatten()).collect())
    }

    /// Looks up the keys that have not been found yet.
    async fn look_for(&self, keys: &[KeyBuf], found: &mut [Option<Option<Arc<E>>>]) -> LookedAtMany {
        let mut outcomes = Vec::with_capacity(keys.len());
        let (mut asked, mut asked_keys): (_, Vec<KeyRef<'_>>) = (Vec::new(), Vec::new());
        for (place, (key, found)) in keys.iter().zip(&*found).enumerate() {
            let valid = key::check(&key.bytes).map_err(|_| Miss::InvalidKey);
            if valid.is_ok() && found.is_none() {
                asked.push(place);
                asked_keys.push(key.as_ref());
            }
            outcomes.push(valid);
        }
        let lookups = self.look_many(&asked_keys).await;
        for (place, looked) in asked.into_iter().zip(lookups.found) {
            if let Some(outcome) = outcomes.get_mut(place) {
                *outcome = looked.as_ref().map(|_| ()).map_err(|miss| *miss);
            }
            match looked {
                Ok(object) => set(found, place, Some(object)),
                Err(Miss::KnownAbsent) => set(found, place, None),
                Err(_) => {}
            }
        }
        LookedAtMany { ticket: lookups.ticket, outcomes }
    }

    /// The caller's part in the load of each missing key, decided in one critical section. `None`: a load of one of the keys may have ended
    /// since the caller looked.
    fn join_or_lead_many<Err: Send + Sync + 'static>(
        &self,
        keys: &[KeyBuf],
        missing: &[usize],
        finished: u64,
        looked_again: bool,
    ) -> Option<Vec<(usize, Part<E, Err>)>> {
        let mut table = self.inner.loads.table.lock();
        let missing =
            missing.iter().filter_map(|place| Some((*place, (keys.get(*place)?.clone(), TypeId::of::<Err>()))));
        let missing: Vec<(usize, LoadId)> = missing.collect();
        let stale = table.finished != finished && !looked_again;
        if stale && missing.iter().any(|(_, id)| Self::join::<Err>(&table, id).is_none()) {
            return None;
        }
        let parts = missing.into_iter().map(|(place, id)| {
            let part = Self::join(&table, &id);
            (place, part.unwrap_or_else(|| Part::Lead(self.lead(&mut table, Load::new(true), id))))
        });
        Some(parts.collect())
    }

    /// Begins the load of several keys in one task.
    fn start_many<T, F, L, Err>(
        &self,
        leaders: Vec<(Leader<E, Err>, T)>,
        ticket: Option<Ticket>,
        loader: Arc<F>,
    ) -> Result<(), LoadError<Err>>
    where
        T: Send + 'static,
        F: Fn(Vec<T>) -> L + Send + Sync + 'static,
        L: Future<Output = Result<Vec<E>, Failure<Err>>> + Send + 'static,
        Err: Send + Sync + 'static,
    {
        if leaders.is_empty() {
            return Ok(());
        }
        let runtime = Handle::try_current().map_err(|_| LoadError::NoRuntime)?;
        let cache = self.clone();
        let span =
            tracing::debug_span!("larder load of many", cache = %self.inner.schema.cache, entries = leaders.len());
        // A caller that waits for one of the keys waits for the whole load.
        let dependencies: Arc<Dependencies> = Arc::default();
        leaders.iter().for_each(|(leader, _)| leader.load.dependencies.add(&dependencies));
        let load = async move {
            leaders.iter().for_each(|(leader, _)| leader.begin());
            let (leaders, ticket) = match ticket {
                Some(_) => (leaders, ticket),
                None => cache.look_before(leaders).await,
            };
            let (leaders, keys): (Vec<_>, Vec<_>) = leaders.into_iter().unzip();
            if leaders.is_empty() {
                return;
            }
            let admission = cache.inner.comeback_limit.admit(ticket.map(|ticket| ticket.epoch)).await;
            cache.stats().held_back.add(u64::from(admission.held_back));
            cache.stats().loads.increment();
            match loader(keys).await {
                Ok(objects) => cache.finish_many(leaders, objects, ticket).await,
                Err(error) => {
                    cache.stats().load_failures.increment();
                    leaders
                        .into_iter()
                        .for_each(|mut leader| leader.finish(Err(LoadError::Failed(error.clone())), None));
                }
            }
        };
        runtime.spawn(LOADING.scope(dependencies, load.instrument(span)));
        Ok(())
    }

    /// Finishes the loads whose object is in the cache by now. Returns the other loads, and their ticket.
    async fn look_before<T, Err: Send + Sync + 'static>(
        &self,
        leaders: Vec<(Leader<E, Err>, T)>,
    ) -> (Vec<(Leader<E, Err>, T)>, Option<Ticket>) {
        let keys: Vec<KeyBuf> = leaders.iter().map(|(leader, _)| leader.key.clone()).collect();
        let mut found = vec![None; keys.len()];
        let mut looked = self.look_for(&keys, &mut found).await;
        // As for one key: without a ticket the load could fill nothing, and another load would have to follow.
        for pause in [1, 2, 4] {
            if !looked.outcomes.contains(&Err(Miss::Shed)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
            looked = self.look_for(&keys, &mut found).await;
        }
        let left = leaders.into_iter().zip(found).filter_map(|((mut leader, key), found)| match found {
            Some(object) => {
                leader.finish(Ok(object), None);
                None
            }
            None => Some((leader, key)),
        });
        (left.collect(), looked.ticket)
    }

    /// Fills the objects that a loader has returned, and finishes the loads.
    async fn finish_many<Err: Send + Sync + 'static>(
        &self,
        leaders: Vec<Leader<E, Err>>,
        objects: Vec<E>,
        ticket: Option<Ticket>,
    ) {
        let objects: Vec<Arc<E>> = objects.into_iter().map(Arc::new).collect();
        // All keys belong to one index.
        let asked: HashSet<KeyRef<'_>> = leaders.iter().map(|leader| leader.key.as_ref()).collect();
        let mut listed: HashMap<KeyBuf, usize> = HashMap::new();
        let mut strays = 0;
        for (place, object) in objects.iter().enumerate() {
            let mut asked_for = false;
            for key in Keys::of(&**object) {
                if asked.contains(&key.as_ref()) {
                    asked_for = true;
                    listed.insert(key.into_buf(), place);
                }
            }
            strays += u64::from(!asked_for);
        }
        let accepted = match ticket {
            Some(ticket) => self.fill_many(&objects, ticket).await,
            None => Vec::new(),
        };
        let mut absent = Vec::new();
        for mut leader in leaders {
            match listed.get(&leader.key).and_then(|place| Some((objects.get(*place)?, accepted.get(*place)))) {
                Some((object, accepted)) => leader.finish(Ok(Some(object.clone())), accepted.copied().flatten()),
                None => absent.push(leader),
            }
        }
        // A loader may return more than it was asked for. Count such objects only as far as there are keys without an object.
        let unlisted = strays.min(absent.len() as u64);
        if let Some(leader) = absent.first().filter(|_| unlisted > 0) {
            self.unlisted(leader.key.index, unlisted);
        }
        let Some(ticket) = ticket.filter(|_| self.inner.schema.loading.minds_absence()) else {
            return absent.into_iter().for_each(|mut leader| leader.finish(Ok(None), None));
        };
        let mut noting = JoinSet::new();
        for mut leader in absent {
            if noting.len() >= AT_ONCE {
                noting.join_next().await;
            }
            let cache = self.clone();
            noting.spawn(async move {
                let accepted = cache.fill_absent(&leader.key, ticket).await.accepted();
                leader.finish(Ok(None), accepted);
            });
        }
        noting.join_all().await;
    }
}

/// The distinct keys of a call.
struct Distinct {
    keys: Vec<KeyBuf>,
    /// For each distinct key, the place where the call first names it.
    firsts: Vec<usize>,
    /// For each key of the call, its place among the distinct keys.
    places: Vec<usize>,
}

impl Distinct {
    fn of<E: Entry, T, K: KeyFor<T>>(index: Index<E, T>, asked: &[K]) -> Self {
        let (mut keys, mut firsts) = (Vec::with_capacity(asked.len()), Vec::with_capacity(asked.len()));
        let mut known: HashMap<KeyBuf, usize> = HashMap::with_capacity(asked.len());
        let places = asked.iter().enumerate().map(|(first, key)| {
            *known.entry(index.key(key).into_buf()).or_insert_with_key(|key| {
                keys.push(key.clone());
                firsts.push(first);
                keys.len() - 1
            })
        });
        let places = places.collect();
        Self { keys, firsts, places }
    }
}

fn set<E>(found: &mut [Option<Option<Arc<E>>>], place: usize, object: Option<Arc<E>>) {
    if let Some(found) = found.get_mut(place) {
        *found = Some(object);
    }
}
