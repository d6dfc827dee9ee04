//! What a node does all day: many tasks that read by every key, load, change, move, delete and forget, at random, as the seed has it.

use super::Caches;
use super::callers::Patience;
use super::recorder::Recorder;
use crate::checker::STEADY;
use crate::objects::{By, Instance, Key, Kind, Policy, State, Subject};
use crate::protocol::{Answer, Call, Event, Forgotten, Outcome, Read, Setup, Through, now};
use crate::source::{Change, Source, SourceError, Writing};
use crate::truth::digest;
use larder::{Cache, Delivery, Error, Lookup, Stored};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// Instances that everybody changes, and their hosts: few, so that everybody is after the same ones.
pub(crate) const INSTANCES: u32 = 32;
pub(crate) const HOSTS: u32 = 64;
pub(crate) const POLICIES: u32 = 10;

/// The first of the instances that one task alone changes.
const OWN: u32 = 1_000;

/// A policy that there never is.
const NOBODY: u32 = 999;

/// Most hosts of one instance.
const MOST_HOSTS: usize = 4;

/// The tasks, and what they work with.
pub(super) struct Workload {
    desk: Arc<Desk>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

struct Desk {
    setup: Setup,
    caches: Arc<Caches>,
    source: Source,
    recorder: Arc<Recorder>,
    by_primary: AtomicBool,
    ending: AtomicBool,
    /// What each task is doing.
    doing: Mutex<BTreeMap<u32, &'static str>>,
    /// Updates whose callers have gone away: their writes are done, and must reach the cache all the same.
    detached: Mutex<Vec<Written>>,
}

/// What an update has written, and when, once it has.
type Written = Arc<Mutex<Option<(State, u64)>>>;

/// What is done to an instance.
#[derive(Clone, Copy, Debug)]
enum Edit {
    /// A new state with the same keys.
    Touch,
    /// Takes the host, from whoever has it; or gives it up.
    Toggle(u32),
    /// Deletes it, or makes it again.
    Remove,
}

impl Edit {
    fn random(rng: &mut fastrand::Rng) -> Self {
        match rng.u32(..10) {
            0..4 => Self::Touch,
            4..9 => Self::Toggle(rng.u32(..HOSTS)),
            _ => Self::Remove,
        }
    }

    fn make(self, writing: &mut Writing<'_>, number: u32) -> Result<(), SourceError> {
        let hosts = writing.read(Kind::Instance, number)?.map(|state| state.hosts);
        match (self, hosts) {
            (Self::Remove, Some(_)) => writing.delete(Kind::Instance, number),
            (Self::Touch | Self::Remove, hosts) => writing.write(Kind::Instance, number, hosts.unwrap_or_default()),
            (Self::Toggle(host), hosts) => {
                let mut hosts = hosts.unwrap_or_default();
                match writing.owner(host)? {
                    Some(owner) if owner == number => hosts.retain(|other| *other != host),
                    owner => {
                        if let Some(state) = owner.and_then(|owner| writing.read(Kind::Instance, owner).transpose()) {
                            let mut state = state?;
                            state.hosts.retain(|other| *other != host);
                            writing.write(Kind::Instance, state.number, state.hosts)?;
                        }
                        hosts.push(host);
                        if hosts.len() > MOST_HOSTS {
                            hosts.remove(0);
                        }
                    }
                }
                writing.write(Kind::Instance, number, hosts)
            }
        }
    }
}

impl Workload {
    pub(super) fn begin(setup: Setup, caches: Arc<Caches>, source: Source, recorder: Arc<Recorder>) -> Self {
        let count = setup.tasks;
        let desk = Arc::new(Desk {
            setup,
            caches,
            source,
            recorder,
            by_primary: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            doing: Mutex::default(),
            detached: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for task in 0..count {
            tasks.spawn(desk.clone().work(task));
        }
        tasks.spawn(desk.clone().change_in_bulk(count));
        Self { desk, tasks: tokio::sync::Mutex::new(tasks) }
    }

    /// Whether invalidations are to come by primary key only.
    pub(super) fn by_primary(&self, only: bool) {
        self.desk.by_primary.store(only, Ordering::Relaxed);
    }

    /// Ends the tasks. An error says what one of them is stuck in.
    pub(super) async fn end(&self, within: Duration) -> Result<(), String> {
        self.desk.ending.store(true, Ordering::Relaxed);
        let mut tasks = self.tasks.lock().await;
        let ended = tokio::time::timeout(within, async {
            while let Some(task) = tasks.join_next().await {
                task.map_err(|error| format!("a task has ended badly: {error}"))?;
            }
            Ok::<(), String>(())
        });
        match ended.await {
            Ok(ended) => ended?,
            Err(_) => {
                let doing: Vec<&str> = lock(&self.desk.doing).values().copied().collect();
                return Err(format!(
                    "after {} s these calls have not returned: {}",
                    within.as_secs(),
                    doing.join(", ")
                ));
            }
        }
        // What goes on without its caller: at most two operations after the write.
        tokio::time::sleep(super::OPERATION_TIMEOUT * 10).await;
        Ok(())
    }

    /// Tells of the updates whose callers have gone away. To be called when everything has come to rest.
    pub(super) fn own_up(&self) {
        for update in lock(&self.desk.detached).drain(..) {
            let Some((state, begun)) = lock(&update).take() else { continue };
            self.desk.forgot(
                Call::Update,
                Kind::Instance,
                state.keys().collect(),
                state.sequence,
                begun,
                Outcome::Deferred,
            );
        }
    }

    /// Reads everything by every key.
    pub(super) async fn sweep(&self) {
        let own = (0..self.desk.setup.tasks).map(|task| self.desk.own(task));
        let instances: Vec<u32> = (0..INSTANCES).chain(own).collect();
        let ids = instances.iter().map(|number| Key::id(Kind::Instance, *number));
        let serials = instances.iter().map(|number| Key::serial(Kind::Instance, *number));
        let mut rng = fastrand::Rng::with_seed(0);
        for key in ids.chain(serials).chain((0..HOSTS).map(Key::host)) {
            self.desk.get(&self.desk.caches.instances, key, Patience::Endless).await;
            self.desk.get_or_load(&self.desk.caches.instances, key, Patience::Endless, Pace::instant(&mut rng)).await;
        }
        for number in 0..POLICIES {
            for key in [Key::id(Kind::Policy, number), Key::serial(Kind::Policy, number)] {
                self.desk.get(&self.desk.caches.policies, key, Patience::Endless).await;
            }
        }
    }
}

/// How a load goes.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How long it takes to come back with what it has read.
    delay: Duration,
    /// How many changes the replica is behind.
    behind: u32,
}

impl Pace {
    fn random(rng: &mut fastrand::Rng) -> Self {
        let delay = match rng.u32(..100) {
            0..50 => rng.u64(0..3),
            50..90 => rng.u64(3..60),
            90..99 => rng.u64(60..400),
            // Longer than an outage.
            _ => rng.u64(400..2_500),
        };
        let behind = if rng.bool() { 0 } else { rng.u32(1..6) };
        Self { delay: Duration::from_millis(delay), behind }
    }

    fn instant(rng: &mut fastrand::Rng) -> Self {
        Self { delay: Duration::ZERO, ..Self::random(rng) }
    }
}

impl Desk {
    async fn work(self: Arc<Self>, task: u32) {
        let seed = [self.setup.seed, u64::from(self.setup.node), u64::from(task)];
        let mut rng = fastrand::Rng::with_seed(
            seed.into_iter()
                .fold(0x9E37_79B9, |mixed, part| (mixed ^ part).wrapping_mul(0x2545_F491_4F6C_DD1D).rotate_left(23)),
        );
        while !self.ending.load(Ordering::Relaxed) {
            self.act(task, &mut rng).await;
            tokio::time::sleep(Duration::from_millis(rng.u64(..6))).await;
        }
        lock(&self.doing).remove(&task);
    }

    async fn act(&self, task: u32, rng: &mut fastrand::Rng) {
        let (instances, policies) = (&self.caches.instances, &self.caches.policies);
        let patience = if self.setup.cancel { Patience::random(rng, 12) } else { Patience::Endless };
        let pace = Pace::random(rng);
        let doing = |what| lock(&self.doing).insert(task, what);
        match rng.u32(..1_000) {
            0..360 => {
                doing("get");
                self.get(instances, self.instance_key(rng), patience).await;
            }
            360..610 => {
                doing("get_or_load");
                self.get_or_load(instances, self.instance_key(rng), patience, pace).await;
            }
            610..660 => {
                doing("lookup and fill");
                self.look_up_and_fill(instances, self.instance_key(rng), patience, pace).await;
            }
            660..740 => {
                doing("get of a policy");
                self.get(policies, policy_key(rng), patience).await;
            }
            740..760 => {
                doing("fill of a policy that is there");
                self.refill(Key::id(Kind::Policy, rng.u32(..STEADY)), patience, pace).await;
            }
            760..800 => {
                doing("get_or_load of a policy");
                self.get_or_load(policies, policy_key(rng), patience, pace).await;
            }
            800..890 => {
                doing("change and invalidate");
                self.change(rng, patience).await;
            }
            890..915 => {
                doing("update");
                self.update(rng, patience).await;
            }
            915..940 => {
                doing("set");
                self.set(task, patience).await;
            }
            940..960 => {
                doing("delete");
                let key = self.instance_key(rng);
                self.delete(key, patience).await;
            }
            960..985 => {
                doing("change of a policy");
                self.change_policy(rng, patience).await;
            }
            985..986 => {
                doing("prune");
                let _ = instances.prune().await;
            }
            _ => {
                doing("invalidate without a change");
                let key = self.instance_key(rng);
                let key =
                    if self.by_primary.load(Ordering::Relaxed) { Key::id(Kind::Instance, number(rng)) } else { key };
                let call = instances.invalidate(Instance::index(key.by), [key]);
                self.forget(Call::Invalidate, Kind::Instance, vec![key], 0, patience, call).await;
            }
        }
    }

    /// Now and then everything, after a change of many.
    async fn change_in_bulk(self: Arc<Self>, task: u32) {
        let mut rng = fastrand::Rng::with_seed(self.setup.seed ^ u64::from(self.setup.node) << 32);
        while !self.ending.load(Ordering::Relaxed) {
            for _ in 0..rng.u32(10..60) {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if self.ending.load(Ordering::Relaxed) {
                    return;
                }
            }
            lock(&self.doing).insert(task, "truncate");
            let numbers: Vec<u32> = (0..12).map(|_| number(&mut rng)).collect();
            let changed = self.source.change(move |writing| {
                let mut done = Vec::new();
                for number in numbers {
                    if !done.contains(&number) {
                        Edit::Touch.make(writing, number)?;
                        done.push(number);
                    }
                }
                Ok(())
            });
            if let Ok(change) = changed.await {
                let patience = if self.setup.cancel { Patience::random(&mut rng, 4) } else { Patience::Endless };
                let call = self.caches.instances.truncate();
                self.forget(Call::Truncate, Kind::Instance, Vec::new(), change.sequence, patience, call).await;
            }
            lock(&self.doing).remove(&task);
        }
    }

    fn own(&self, task: u32) -> u32 {
        OWN + self.setup.place * 100 + task
    }

    fn instance_key(&self, rng: &mut fastrand::Rng) -> Key {
        match rng.u32(..10) {
            0 => Key::id(Kind::Instance, self.own(rng.u32(..self.setup.tasks.max(1)))),
            1..4 => Key::id(Kind::Instance, number(rng)),
            4..6 => Key::serial(Kind::Instance, number(rng)),
            _ => Key::host(rng.u32(..HOSTS)),
        }
    }

    async fn get<E: Subject>(&self, cache: &Cache<E>, key: Key, patience: Patience) {
        let begun = now();
        let got = patience.wait(cache.get(E::index(key.by), key)).await;
        self.took("get", begun);
        match got {
            Some(Some(object)) => self.saw(key, begun, Through::Hit, Some(&*object)),
            Some(None) => {}
            None => self.recorder.dropped(),
        }
    }

    async fn get_or_load<E: Subject>(&self, cache: &Cache<E>, key: Key, patience: Patience, pace: Pace) {
        let begun = now();
        let (source, node) = (self.source.clone(), self.setup.node);
        let call = cache.get_or_load(E::index(key.by), key, move |key| load::<E>(source, node, key, pace));
        match patience.wait(call).await {
            Some(Ok(object)) => self.saw(key, begun, Through::GetOrLoad, object.as_deref()),
            // SQLite is never in trouble for good.
            Some(Err(_)) => {}
            None => self.recorder.dropped(),
        }
    }

    async fn look_up_and_fill<E: Subject>(&self, cache: &Cache<E>, key: Key, patience: Patience, pace: Pace) {
        let begun = now();
        let looked_up = patience.wait(cache.lookup(E::index(key.by), key)).await;
        self.took("lookup", begun);
        match looked_up {
            Some(Lookup::Hit(object)) => self.saw(key, begun, Through::Hit, Some(&*object)),
            Some(Lookup::Miss(_, Some(ticket))) => {
                if let Ok(Some(object)) = load::<E>(self.source.clone(), self.setup.node, key, pace).await
                    && patience.wait(cache.fill(object, ticket)).await.is_none()
                {
                    self.recorder.dropped();
                }
            }
            Some(Lookup::Miss(_, None)) => {}
            None => self.recorder.dropped(),
        }
    }

    /// Fills a policy whether it is there or not: a lower version must not replace a higher one. The ticket is that of another key's
    /// miss.
    async fn refill(&self, key: Key, patience: Patience, pace: Pace) {
        let cache = &self.caches.policies;
        let nobody = Key::id(Kind::Policy, NOBODY);
        let Some(Lookup::Miss(_, Some(ticket))) = patience.wait(cache.lookup(Policy::index(By::Id), nobody)).await
        else {
            return;
        };
        if let Ok(Some(policy)) = load::<Policy>(self.source.clone(), self.setup.node, key, pace).await
            && patience.wait(cache.fill(policy, ticket)).await.is_none()
        {
            self.recorder.dropped();
        }
    }

    fn saw<E: Subject>(&self, key: Key, begun: u64, through: Through, object: Option<&E>) {
        let answer = match object.map(|object| (object, object.state())) {
            None => None,
            Some((object, Some(state))) => Some(Answer {
                number: state.number,
                sequence: state.sequence,
                hosts: digest(&state.hosts),
                born: object.body().born,
                by: object.body().by,
            }),
            Some((object, None)) => {
                let what = format!("an object whose parts do not agree: {:?}", object.body());
                self.recorder.record(|at| Event::Broken { at, key, what });
                return;
            }
        };
        self.recorder.record(|ended| Event::Read(Read { key, begun, ended, through, answer }));
    }

    /// Waits for a call that makes the cache forget, and records what became of it.
    async fn forget(
        &self,
        name: Call,
        kind: Kind,
        keys: Vec<Key>,
        sequence: u64,
        patience: Patience,
        call: impl Future<Output = Result<Delivery, Error>>,
    ) {
        let begun = now();
        let answer = patience.wait(call).await;
        self.took("invalidate", begun);
        let outcome = match answer {
            Some(Ok(Delivery::Applied)) => Outcome::Applied,
            Some(Ok(Delivery::Deferred)) => Outcome::Deferred,
            // Only of keys that cannot exist.
            Some(Err(_)) => return,
            None => {
                self.recorder.dropped();
                Outcome::Dropped
            }
        };
        self.forgot(name, kind, keys, sequence, begun, outcome);
    }

    fn forgot(&self, call: Call, kind: Kind, keys: Vec<Key>, sequence: u64, begun: u64, outcome: Outcome) {
        self.recorder.record(|ended| Event::Forgotten(Forgotten { call, kind, keys, sequence, begun, ended, outcome }));
    }

    fn took(&self, call: &'static str, begun: u64) {
        self.recorder.took(call, now().saturating_sub(begun));
    }

    /// A change, and its invalidation in one of the ways there are.
    async fn change(&self, rng: &mut fastrand::Rng, patience: Patience) {
        let (number, edit) = (number(rng), Edit::random(rng));
        let way = rng.u32(..4);
        let Ok(change) = self.source.change(move |writing| edit.make(writing, number)).await else { return };
        self.invalidate(&change, way, patience).await;
    }

    async fn invalidate(&self, change: &Change, way: u32, patience: Patience) {
        let cache = &self.caches.instances;
        let sequence = change.sequence;
        let states = || change.touched.iter().flat_map(|(before, after)| before.iter().chain(after));
        let by_primary = self.by_primary.load(Ordering::Relaxed);
        let by_hosts =
            change.touched.iter().all(|(before, _)| before.as_ref().is_some_and(|state| !state.hosts.is_empty()));
        let keys = |by: By| {
            let mut keys: Vec<Key> = states().flat_map(State::keys).filter(|key| key.by == by).collect();
            keys.sort();
            keys.dedup();
            keys
        };
        let by = match way {
            1 if !by_primary => By::Serial,
            2 if !by_primary && by_hosts => By::Host,
            3 => {
                for (before, after) in &change.touched {
                    let (before, after) = (before.as_ref().or(after.as_ref()), after.as_ref().or(before.as_ref()));
                    let (Some(before), Some(after)) = (before, after) else { continue };
                    let (old, new) = (Instance::new(before, 0, 0), Instance::new(after, 0, 0));
                    let mut keys: Vec<Key> = before.keys().chain(after.keys()).collect();
                    keys.sort_unstable();
                    keys.dedup();
                    let call = cache.invalidate_change(&old, &new);
                    self.forget(Call::InvalidateChange, Kind::Instance, keys, sequence, patience, call).await;
                }
                return;
            }
            _ => By::Id,
        };
        let keys = keys(by);
        let call = cache.invalidate(Instance::index(by), keys.clone());
        self.forget(Call::Invalidate, Kind::Instance, keys, sequence, patience, call).await;
    }

    async fn update(&self, rng: &mut fastrand::Rng, patience: Patience) {
        let number = number(rng);
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
        let Some((state, begun)) = lock(&written).take() else { return };
        // It does not say whether it was delivered.
        self.forgot(Call::Update, Kind::Instance, state.keys().collect(), state.sequence, begun, Outcome::Deferred);
    }

    /// Of an instance that nobody else changes, since a plain set cannot know that its value was overtaken before it began.
    async fn set(&self, task: u32, patience: Patience) {
        let number = self.own(task);
        let Ok(change) = self.source.change(move |writing| Edit::Touch.make(writing, number)).await else { return };
        let Some((_, Some(state))) = change.touched.into_iter().next() else { return };
        let begun = now();
        let call = self.caches.instances.set(Instance::new(&state, begun, self.setup.node));
        let stored = patience.wait(call).await;
        self.took("set", begun);
        let outcome = match stored {
            Some(Stored::Unavailable) => Outcome::Deferred,
            Some(_) => Outcome::Applied,
            None => {
                self.recorder.dropped();
                Outcome::Dropped
            }
        };
        self.forgot(Call::Set, Kind::Instance, state.keys().collect(), state.sequence, begun, outcome);
    }

    async fn delete(&self, key: Key, patience: Patience) {
        let call = self.caches.instances.delete(Instance::index(key.by), [key]);
        self.forget(Call::Delete, Kind::Instance, vec![key], 0, patience, call).await;
    }

    async fn change_policy(&self, rng: &mut fastrand::Rng, patience: Patience) {
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
        self.forget(Call::InvalidateBelow(version), Kind::Policy, vec![key], version, patience, call).await;
    }
}

fn number(rng: &mut fastrand::Rng) -> u32 {
    // Half of it all is about a quarter of them.
    if rng.bool() { rng.u32(..INSTANCES / 4) } else { rng.u32(..INSTANCES) }
}

fn policy_key(rng: &mut fastrand::Rng) -> Key {
    let number = rng.u32(..POLICIES);
    if rng.bool() { Key::id(Kind::Policy, number) } else { Key::serial(Kind::Policy, number) }
}

/// Reads the source, and takes its time to come back with it.
async fn load<E: Subject>(source: Source, node: u32, key: Key, pace: Pace) -> Result<Option<E>, SourceError> {
    let born = now();
    let state = source.read(move |database| match E::KIND {
        Kind::Instance => database.find(key),
        Kind::Policy => database.find_on_replica(key, pace.behind),
    });
    let state = state.await?;
    if !pace.delay.is_zero() {
        tokio::time::sleep(pace.delay).await;
    }
    Ok(state.map(|state| E::new(&state, born, node)))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
