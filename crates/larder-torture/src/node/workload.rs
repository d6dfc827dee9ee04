//! The random work of a node, as the seed decides: tasks that change, move, delete and forget objects, and read between that; tasks that only
//! read, as fast as they are answered; and tasks for rare operations.

mod across;
mod forgetting;
mod objects;
mod reading;
mod roundabout;
mod sql;

pub(crate) use objects::{INSTANCES, POLICIES};
pub(super) use reading::Pace;

use super::Caches;
use super::callers::Patience;
use super::recorder::Recorder;
use crate::objects::{Key, Kind, State};
use crate::postgres::Sql;
use crate::protocol::{Setup, Store, now};
use crate::source::Source;
use objects::{
    HOSTS, ROUNDABOUTS, instance_key, own, policy_key, policy_keys, readable_key, readable_keys, roundabout, steady_key,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// The most gets that a reader makes in a row before it checks whether it must end.
pub(super) const IN_A_ROW: u32 = 32;

/// How long a call may go on after its caller has gone away: a delay, and two operations.
const CALLERLESS: Duration = Duration::from_millis(1_500);

/// The tasks of a node, and their common data.
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
    /// The present call of each task.
    doing: Mutex<BTreeMap<u32, &'static str>>,
    /// Updates whose callers have gone away. Their writes are done all the same, and must reach the cache.
    detached: Mutex<Vec<Written>>,
    /// The instances of this node's own that it has written.
    own_hosts: Mutex<BTreeSet<u32>>,
    /// Sessions for plain SQL that nobody uses now.
    sessions: Mutex<Vec<Sql>>,
}

/// What an update has written, and when. `None` until it has written.
type Written = Arc<Mutex<Option<(State, u64)>>>;

/// How many tasks a node has. The last is the sweep.
pub(super) fn tasks(setup: &Setup) -> u32 {
    setup.tasks + setup.readers + ROUNDABOUTS + 2
}

impl Workload {
    pub(super) fn begin(setup: Setup, caches: Arc<Caches>, source: Source, recorder: Arc<Recorder>) -> Self {
        let (workers, readers) = (setup.tasks, setup.readers);
        let desk = Arc::new(Desk {
            setup,
            caches,
            source,
            recorder,
            by_primary: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            doing: Mutex::default(),
            detached: Mutex::default(),
            own_hosts: Mutex::default(),
            sessions: Mutex::default(),
        });
        desk.recorder.rests(desk.sweeper());
        let mut tasks = JoinSet::new();
        for task in 0..workers {
            tasks.spawn(desk.clone().work(task));
        }
        for task in workers..workers + readers {
            tasks.spawn(desk.clone().read(task));
        }
        tasks.spawn(desk.clone().change_in_bulk(workers + readers));
        for (task, number) in (workers + readers + 1..).zip(roundabout(desk.setup.place)) {
            if matches!(desk.setup.store, Store::Postgres { .. }) {
                tasks.spawn(desk.clone().go_across(task, number, number.is_multiple_of(ROUNDABOUTS)));
            } else {
                tasks.spawn(desk.clone().go_round(task, number));
            }
        }
        Self { desk, tasks: tokio::sync::Mutex::new(tasks) }
    }

    /// Sets whether tasks must invalidate by primary key only.
    pub(super) fn by_primary(&self, only: bool) {
        self.desk.by_primary.store(only, Ordering::Relaxed);
    }

    /// Ends the tasks. An error names the calls that have not returned.
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
        // Calls without a caller may still be under way. They take at most two operations after the write.
        tokio::time::sleep(CALLERLESS).await;
        Ok(())
    }

    /// Reports the updates whose callers went away. To be called when everything has come to rest.
    pub(super) fn own_up(&self) {
        for update in lock(&self.desk.detached).drain(..) {
            if let Some((state, begun)) = lock(&update).take() {
                self.desk.updated(&state, begun);
            }
        }
    }

    /// Reads all objects by every key.
    pub(super) async fn sweep(&self) {
        let Desk { setup, caches, recorder, .. } = &*self.desk;
        let sweeper = self.desk.sweeper();
        let own = (0..setup.tasks).flat_map(|task| own(setup.place, task)).chain(roundabout(setup.place));
        let instances: Vec<u32> = (0..INSTANCES).chain(own).collect();
        let ids = instances.iter().map(|number| Key::id(Kind::Instance, *number));
        let serials = instances.iter().map(|number| Key::serial(Kind::Instance, *number));
        let mut rng = fastrand::Rng::with_seed(0);
        for key in ids.chain(serials).chain((0..HOSTS).map(Key::host)) {
            recorder.begins(sweeper);
            self.desk.get(&caches.instances, key, Patience::Endless).await;
            self.desk.get_or_load(&caches.instances, key, Patience::Endless, Pace::instant(&mut rng)).await;
        }
        for number in 0..POLICIES {
            for key in [Key::id(Kind::Policy, number), Key::serial(Kind::Policy, number)] {
                recorder.begins(sweeper);
                self.desk.get(&caches.policies, key, Patience::Endless).await;
            }
        }
        recorder.rests(sweeper);
    }
}

impl Desk {
    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// The task number of the sweep.
    fn sweeper(&self) -> u32 {
        tasks(&self.setup) - 1
    }

    fn rng(&self, task: u32) -> fastrand::Rng {
        rng(&self.setup, task)
    }

    fn patience(&self, rng: &mut fastrand::Rng, one_in: u32) -> Patience {
        if self.setup.cancel { Patience::random(rng, one_in) } else { Patience::Endless }
    }

    fn begins(&self, task: u32, what: &'static str) {
        self.recorder.begins(task);
        lock(&self.doing).insert(task, what);
    }

    fn ends(&self, task: u32) {
        self.recorder.rests(task);
        lock(&self.doing).remove(&task);
    }

    fn took(&self, call: &'static str, begun: u64) {
        self.recorder.took(call, now().saturating_sub(begun));
    }

    async fn work(self: Arc<Self>, task: u32) {
        let mut rng = self.rng(task);
        while !self.is_ending() {
            self.act(task, &mut rng).await;
            tokio::time::sleep(Duration::from_millis(rng.u64(..6))).await;
        }
        self.ends(task);
    }

    async fn act(&self, task: u32, rng: &mut fastrand::Rng) {
        let (instances, policies) = (&self.caches.instances, &self.caches.policies);
        let patience = self.patience(rng, 12);
        let pace = Pace::random(rng);
        let begins = |what| self.begins(task, what);
        match rng.u32(..1_000) {
            0..200 => {
                begins("get");
                self.get(instances, readable_key(&self.setup, rng), patience).await;
            }
            200..470 => {
                begins("get_or_load");
                self.get_or_load(instances, readable_key(&self.setup, rng), patience, pace).await;
            }
            470..560 => {
                begins("load_many");
                self.load_many(instances, &readable_keys(&self.setup, rng, 16), patience, pace).await;
            }
            560..620 => {
                begins("lookup and fill");
                self.look_up_and_fill(instances, readable_key(&self.setup, rng), patience, pace).await;
            }
            620..660 => {
                begins("get of a policy");
                self.get(policies, policy_key(rng), patience).await;
            }
            660..690 => {
                begins("fill of a policy that is there");
                self.refill(steady_key(rng), patience, pace).await;
            }
            690..730 => {
                begins("get_or_load of a policy");
                self.get_or_load(policies, policy_key(rng), patience, pace).await;
            }
            730..750 => {
                begins("load_many of policies");
                self.load_many(policies, &policy_keys(rng), patience, pace).await;
            }
            750..850 => {
                begins("change and invalidate");
                self.change(rng, patience).await;
            }
            850..870 => {
                begins("change several and invalidate_many");
                self.change_several(rng, patience).await;
            }
            870..895 => {
                begins("update");
                self.update(rng, patience).await;
            }
            895..925 => {
                begins("set");
                self.set(task, rng, patience).await;
            }
            925..945 => {
                begins("delete");
                self.delete(instance_key(&self.setup, rng), patience).await;
            }
            945..975 => {
                begins("change of a policy");
                self.change_policy(rng, patience).await;
            }
            975..976 => {
                begins("prune");
                let _ = instances.prune().await;
            }
            _ => {
                begins("invalidate without a change");
                self.invalidate_without_change(rng, patience).await;
            }
        }
    }

    /// Reads as fast as answers come, but not faster than the checker can judge.
    async fn read(self: Arc<Self>, task: u32) {
        let mut rng = self.rng(task);
        let (instances, policies) = (&self.caches.instances, &self.caches.policies);
        while !self.is_ending() {
            self.recorder.room().await;
            let rng = &mut rng;
            let patience = self.patience(rng, 24);
            let answered = match rng.u32(..100) {
                0..66 => {
                    self.begins(task, "gets");
                    let mut answered = false;
                    for _ in 0..rng.u32(1..=IN_A_ROW) {
                        answered |= self.get(instances, readable_key(&self.setup, rng), self.patience(rng, 24)).await;
                    }
                    answered
                }
                66..74 => {
                    self.begins(task, "gets of policies");
                    let mut answered = false;
                    for _ in 0..rng.u32(1..=IN_A_ROW) {
                        answered |= self.get(policies, policy_key(rng), self.patience(rng, 24)).await;
                    }
                    answered
                }
                74..88 => {
                    self.begins(task, "get_many");
                    self.get_many(instances, &readable_keys(&self.setup, rng, 48), patience).await
                }
                88..91 => {
                    self.begins(task, "get_many of policies");
                    self.get_many(policies, &policy_keys(rng), patience).await
                }
                91..98 => {
                    self.begins(task, "get_or_load");
                    self.get_or_load(instances, readable_key(&self.setup, rng), patience, Pace::brisk(rng)).await;
                    true
                }
                _ => {
                    self.begins(task, "load_many");
                    self.load_many(instances, &readable_keys(&self.setup, rng, 16), patience, Pace::brisk(rng)).await;
                    true
                }
            };
            if answered {
                // An answer from memory never yields to other tasks.
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(Duration::from_millis(rng.u64(1..4))).await;
            }
        }
        self.ends(task);
    }

    /// Truncates the cache now and then. The first time comes soon, because on a busy machine a node may be killed before a later one.
    async fn change_in_bulk(self: Arc<Self>, task: u32) {
        let mut rng = self.rng(task);
        let mut pauses = 1..10;
        while !self.is_ending() {
            for _ in 0..rng.u32(std::mem::replace(&mut pauses, 10..60)) {
                self.recorder.begins(task);
                tokio::time::sleep(Duration::from_millis(50)).await;
                if self.is_ending() {
                    break;
                }
            }
            if !self.is_ending() {
                self.begins(task, "truncate");
                let patience = self.patience(&mut rng, 4);
                self.truncate(&mut rng, patience).await;
                lock(&self.doing).remove(&task);
            }
        }
        self.ends(task);
    }
}

/// What decides the work of a task.
pub(super) fn rng(setup: &Setup, task: u32) -> fastrand::Rng {
    let seed = [setup.seed, u64::from(setup.node), u64::from(task)];
    fastrand::Rng::with_seed(
        seed.into_iter()
            .fold(0x9E37_79B9, |mixed, part| (mixed ^ part).wrapping_mul(0x2545_F491_4F6C_DD1D).rotate_left(23)),
    )
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
