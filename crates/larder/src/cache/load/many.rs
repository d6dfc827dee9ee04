//! Loading several objects with one call of the loader.
//!
//! The rules are those of `load.rs`, key by key: a key that somebody is loading is joined, and whether that load may answer is decided
//! for it alone. The other missing keys become loads of this call, each of which others may join; they share one look, one call of
//! the loader and one fill. Those whose load could not answer share another one.

use crate::cache::Cache;
use crate::cache::load::LoadError;
use crate::cache::load::deadlock::{LOADING, Queue};
use crate::cache::load::flight::{Name, Pilot, Seat, Strip, answers_late_joiner};
use crate::contract::LoadOptions;
use crate::contract::{KeyBuf, Miss, Ticket};
use crate::entry::index::key_of;
use crate::entry::{Entry, Index, Keys};
use crate::failure::{AsError, Failure};
use crate::key::{self, Key};
use std::any::TypeId;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tracing::Instrument;

/// How many keys under which the source has nothing are noted at once.
const AT_ONCE: usize = 64;

/// What was found under each key, in their order.
type Found<E, Err> = Result<Vec<Option<Arc<E>>>, LoadError<Err>>;

/// A key whose load is waited for: its place among the keys, and the ticket of the miss.
struct Waiting<E, Err> {
    place: usize,
    strip: Arc<Strip<E, Err>>,
    /// Where the load had begun: the one after it.
    next: Option<Arc<Strip<E, Err>>>,
}

/// What a look at several keys has found.
struct Glance {
    /// For the load of what is missing.
    ticket: Option<Ticket>,
    /// For each key; also a hit if it was found before.
    outcomes: Vec<Result<(), Miss>>,
}

/// A key that this call loads.
struct Departing<E: Entry, Err: Send + Sync + 'static> {
    place: usize,
    pilot: Pilot<E, Err>,
}

impl<E: Entry> Cache<E> {
    /// Looks several objects up by keys of one index and loads those that the cache does not have with one call of `loader`: as
    /// [`get_or_load`](Self::get_or_load) does for one, and in as few round trips as [`get_many`](Self::get_many).
    ///
    /// `loader` gets the missing keys, each once, and returns the objects it has found for them in any order: an object belongs to
    /// the keys that it lists. A key that none lists has no object; where there are objects that list none of the keys, either, they may have been
    /// meant for it, which is counted and told as [`get_or_load`](Self::get_or_load) says. What comes back has the order of `keys`.
    ///
    /// Keys that somebody is loading are not loaded again; this call waits for that. Where such a load cannot answer, having begun before
    /// a change that this call has to see, `loader` is called a second time, for those keys.
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
    /// #     Cache::new(std::sync::Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap()), schema);
    /// let found = instances
    ///     .load_many(InstanceIndex::Id, [7_u32, 8], |ids: Vec<u32>| async move {
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
    /// Of [`LoadOptions`], `hard_timeout` is for the call as a whole, and `negative_age` and `jitter` are as ever. There is no lease, nothing
    /// is loaded anew ahead of its time, and no expired object is served: those are for single keys.
    ///
    /// # Errors
    ///
    /// The error of the first load that failed, be it this call's or one that it has joined; objects that were found nevertheless are in
    /// the cache. As for one key, the next call loads again at once.
    ///
    /// # Cancellation
    ///
    /// A dropped call leaves its loads running for the others, and for the cache.
    pub async fn load_many<K, F, L, Err, Way>(
        &self,
        index: E::Index,
        keys: impl IntoIterator<Item = K>,
        loader: F,
    ) -> Found<E, Err>
    where
        K: Key,
        F: Fn(Vec<K::Owned>) -> L + Send + Sync + 'static,
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
        // Outside a runtime nobody keeps the time, and nothing is loaded.
        if hard_timeout.is_zero() || Handle::try_current().is_err() {
            return loading.await;
        }
        tokio::time::timeout(hard_timeout, loading).await.unwrap_or_else(|_| {
            self.stats().load_timeouts.increment();
            Err(LoadError::TimedOut(hard_timeout))
        })
    }

    async fn find_or_load_many<K, F, L, Err>(&self, index: E::Index, keys: Vec<K>, loader: Arc<F>) -> Found<E, Err>
    where
        K: Key,
        F: Fn(Vec<K::Owned>) -> L + Send + Sync + 'static,
        L: Future<Output = Result<Vec<E>, Failure<Err>>> + Send + 'static,
        Err: Send + Sync + 'static,
    {
        let Distinct { names, firsts, places } = Distinct::of(index, &keys);
        let mut found: Vec<Option<Option<Arc<E>>>> = vec![None; names.len()];
        let mut looked_again = false;
        let (ticket, mut seats) = loop {
            let landed = self.inner.flights.board.lock().landed;
            let Glance { ticket, outcomes } = self.look_for(&names, &mut found).await;
            if !looked_again {
                let asked = places.iter().filter_map(|place| outcomes.get(*place));
                asked.for_each(|outcome| self.stats().looked(*outcome));
            }
            let missing: Vec<usize> =
                (0..names.len()).filter(|place| matches!(found.get(*place), Some(None))).collect();
            match self.seats(&names, &missing, landed, looked_again) {
                Some(seats) => break (ticket, seats),
                None => looked_again = true,
            }
        };
        // Those who wait for a load that cannot answer them wait for the next one, which is looked for once.
        for round in 0..2 {
            let (mut waiting, mut departing) = (Vec::new(), Vec::new());
            for (place, seat) in seats {
                match seat {
                    Seat::Pilot(pilot) => {
                        waiting.push(Waiting { place, strip: pilot.strip.clone(), next: None });
                        departing.push(Departing { place, pilot });
                    }
                    Seat::Early(strip) => {
                        self.stats().joined.increment();
                        waiting.push(Waiting { place, strip, next: None });
                    }
                    Seat::Late(strip) => {
                        self.stats().joined.increment();
                        // Before waiting: who comes after this caller must not undertake the next load without him.
                        let next = Some(strip.next());
                        waiting.push(Waiting { place, strip, next });
                    }
                    Seat::LookAgain => {}
                }
            }
            let owned = |departing: &Departing<E, Err>| Some(keys.get(*firsts.get(departing.place)?)?.to_owned_key());
            let wanted: Vec<_> = departing.iter().map(owned).collect();
            let departing =
                departing.into_iter().zip(wanted).filter_map(|(departing, key)| Some((departing.pilot, key?)));
            // What was looked for in vain, for want of somebody to ask or a while ago, is looked for once more.
            self.take_off_many(departing.collect(), ticket.filter(|_| round == 0), index, loader.clone())?;
            let mut again = Vec::new();
            for Waiting { place, strip, next } in waiting {
                let landing = strip.landing().await;
                let failed = matches!(landing.loaded, Err(LoadError::Failed(_) | LoadError::Circular));
                match next {
                    Some(next) if !failed && !answers_late_joiner(landing.accepted, ticket) => {
                        again.push((place, next))
                    }
                    _ => set(&mut found, place, landing.loaded?),
                }
            }
            let named = again.into_iter().filter_map(|(place, strip)| Some((place, strip, names.get(place)?.clone())));
            seats = named.map(|(place, strip, key)| (place, self.seat_on(strip, (key, TypeId::of::<Err>())))).collect();
            if seats.is_empty() {
                break;
            }
        }
        Ok(places.into_iter().map(|place| found.get(place).cloned().flatten().flatten()).collect())
    }

    /// Looks up what has not been found yet.
    async fn look_for(&self, names: &[KeyBuf], found: &mut [Option<Option<Arc<E>>>]) -> Glance {
        let mut outcomes = Vec::with_capacity(names.len());
        let (mut asked, mut keys) = (Vec::new(), Vec::new());
        for (place, (name, found)) in names.iter().zip(&*found).enumerate() {
            let valid = key::check(&name.bytes).map_err(|_| Miss::InvalidKey);
            if valid.is_ok() && found.is_none() {
                asked.push(place);
                keys.push(name.as_ref());
            }
            outcomes.push(valid);
        }
        let (looked, ticket) = self.look_many(&keys).await;
        for (place, looked) in asked.into_iter().zip(looked) {
            if let Some(outcome) = outcomes.get_mut(place) {
                *outcome = looked.as_ref().map(|_| ()).map_err(|miss| *miss);
            }
            match looked {
                Ok(object) => set(found, place, Some(object)),
                Err(Miss::KnownAbsent) => set(found, place, None),
                Err(_) => {}
            }
        }
        Glance { ticket, outcomes }
    }

    /// A seat on the load of each missing key, in one critical section. None: somewhere a load may have ended since the caller
    /// looked.
    fn seats<Err: Send + Sync + 'static>(
        &self,
        names: &[KeyBuf],
        missing: &[usize],
        landed: u64,
        looked_again: bool,
    ) -> Option<Vec<(usize, Seat<E, Err>)>> {
        let mut board = self.inner.flights.board.lock();
        let named =
            missing.iter().filter_map(|place| Some((*place, (names.get(*place)?.clone(), TypeId::of::<Err>()))));
        let named: Vec<(usize, Name)> = named.collect();
        let stale = board.landed != landed && !looked_again;
        if stale && named.iter().any(|(_, name)| Self::seat_on_flight::<Err>(&board, name).is_none()) {
            return None;
        }
        let seats = named.into_iter().map(|(place, name)| {
            let seat = Self::seat_on_flight(&board, &name);
            (place, seat.unwrap_or_else(|| Seat::Pilot(self.pilot(&mut board, Strip::new(true), name))))
        });
        Some(seats.collect())
    }

    /// Begins the load of several keys in one task.
    fn take_off_many<O, F, L, Err>(
        &self,
        pilots: Vec<(Pilot<E, Err>, O)>,
        ticket: Option<Ticket>,
        index: E::Index,
        loader: Arc<F>,
    ) -> Result<(), LoadError<Err>>
    where
        O: Send + 'static,
        F: Fn(Vec<O>) -> L + Send + Sync + 'static,
        L: Future<Output = Result<Vec<E>, Failure<Err>>> + Send + 'static,
        Err: Send + Sync + 'static,
    {
        if pilots.is_empty() {
            return Ok(());
        }
        let runtime = Handle::try_current().map_err(|_| LoadError::NoRuntime)?;
        let cache = self.clone();
        let span =
            tracing::debug_span!("larder load of many", cache = %self.inner.schema.cache, entries = pilots.len());
        // Whoever waits for one of the keys waits for the whole load.
        let queue: Arc<Queue> = Arc::default();
        pilots.iter().for_each(|(pilot, _)| pilot.strip.queue.join(&queue));
        let load = async move {
            pilots.iter().for_each(|(pilot, _)| pilot.begin());
            let (pilots, ticket) = match ticket {
                Some(_) => (pilots, ticket),
                None => cache.look_before(pilots).await,
            };
            let (pilots, keys): (Vec<_>, Vec<_>) = pilots.into_iter().unzip();
            if pilots.is_empty() {
                return;
            }
            let admission = cache.inner.gentle.admit(ticket.map(|ticket| ticket.epoch)).await;
            cache.stats().held_back.add(u64::from(admission.held_back));
            cache.stats().loads.increment();
            match loader(keys).await {
                Ok(objects) => cache.land_many(pilots, objects, index, ticket).await,
                Err(error) => {
                    cache.stats().load_failures.increment();
                    pilots.into_iter().for_each(|mut pilot| pilot.land(Err(LoadError::Failed(error.clone())), None));
                }
            }
        };
        runtime.spawn(LOADING.scope(queue, load.instrument(span)));
        Ok(())
    }

    /// Ends the loads of what is in the cache by now; the others, and their ticket.
    async fn look_before<O, Err: Send + Sync + 'static>(
        &self,
        pilots: Vec<(Pilot<E, Err>, O)>,
    ) -> (Vec<(Pilot<E, Err>, O)>, Option<Ticket>) {
        let names: Vec<KeyBuf> = pilots.iter().map(|(pilot, _)| pilot.key.clone()).collect();
        let mut found = vec![None; names.len()];
        let mut glance = self.look_for(&names, &mut found).await;
        // As for one key: a load that has no ticket fills nothing, and so is followed by another one.
        for pause in [1, 2, 4] {
            if !glance.outcomes.contains(&Err(Miss::Shed)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
            glance = self.look_for(&names, &mut found).await;
        }
        let left = pilots.into_iter().zip(found).filter_map(|((mut pilot, key), found)| match found {
            Some(object) => {
                pilot.land(Ok(object), None);
                None
            }
            None => Some((pilot, key)),
        });
        (left.collect(), glance.ticket)
    }

    /// Fills what a loader has found, and ends the loads.
    async fn land_many<Err: Send + Sync + 'static>(
        &self,
        pilots: Vec<Pilot<E, Err>>,
        objects: Vec<E>,
        index: E::Index,
        ticket: Option<Ticket>,
    ) {
        let objects: Vec<Arc<E>> = objects.into_iter().map(Arc::new).collect();
        let asked: HashSet<&[u8]> = pilots.iter().map(|pilot| &*pilot.key.bytes).collect();
        let mut listed: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut strays = 0;
        for (place, object) in objects.iter().enumerate() {
            let mut asked_for = false;
            for (_, bytes) in Keys::of(&**object).into_iter().filter(|(of, _)| *of == index) {
                asked_for |= asked.contains(&*bytes);
                listed.insert(bytes, place);
            }
            strays += u64::from(!asked_for);
        }
        let accepted = match ticket {
            Some(ticket) => self.fill_many(&objects, ticket).await,
            None => Vec::new(),
        };
        let mut absent = Vec::new();
        for mut pilot in pilots {
            match listed.get(&*pilot.key.bytes).and_then(|place| Some((objects.get(*place)?, accepted.get(*place)))) {
                Some((object, accepted)) => pilot.land(Ok(Some(object.clone())), accepted.copied().flatten()),
                None => absent.push(pilot),
            }
        }
        // A loader may return more than it was asked for. Only where a key has no object may such an object have been meant for it.
        let unlisted = strays.min(absent.len() as u64);
        if let Some(pilot) = absent.first().filter(|_| unlisted > 0) {
            self.unlisted(pilot.key.index, unlisted);
        }
        let Some(ticket) = ticket.filter(|_| self.inner.schema.loading.minds_absence()) else {
            return absent.into_iter().for_each(|mut pilot| pilot.land(Ok(None), None));
        };
        let mut noting = JoinSet::new();
        for mut pilot in absent {
            if noting.len() >= AT_ONCE {
                noting.join_next().await;
            }
            let cache = self.clone();
            noting.spawn(async move {
                let accepted = cache.fill_absent(&pilot.key, ticket).await.accepted();
                pilot.land(Ok(None), accepted);
            });
        }
        noting.join_all().await;
    }
}

/// The keys of a call, each once.
struct Distinct {
    names: Vec<KeyBuf>,
    /// For each name, where it is first asked for.
    firsts: Vec<usize>,
    /// For each key that was asked for, the place of its name.
    places: Vec<usize>,
}

impl Distinct {
    fn of<I: Index, K: Key>(index: I, keys: &[K]) -> Self {
        let (mut names, mut firsts) = (Vec::with_capacity(keys.len()), Vec::with_capacity(keys.len()));
        let mut known: HashMap<KeyBuf, usize> = HashMap::with_capacity(keys.len());
        let places = keys.iter().enumerate().map(|(first, key)| {
            let name = key_of(index, &key.encode());
            *known.entry(name).or_insert_with_key(|name| {
                names.push(name.clone());
                firsts.push(first);
                names.len() - 1
            })
        });
        let places = places.collect();
        Self { names, firsts, places }
    }
}

fn set<E>(found: &mut [Option<Option<Arc<E>>>], place: usize, object: Option<Arc<E>>) {
    if let Some(found) = found.get_mut(place) {
        *found = Some(object);
    }
}
