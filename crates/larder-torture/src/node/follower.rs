//! The work of a node in a run with `--feed`: it only reads and loads. The source is changed by writers elsewhere, who know no cache.

use super::callers::Patience;
use super::recorder::Recorder;
use super::workload::{IN_A_ROW, Pace};
use super::{Caches, INSTANCES};
use crate::ledger;
use crate::objects::{Instance, Key, Kind, Subject};
use crate::postgres::{Sql, SqlError};
use crate::protocol::{Setup, Through, now};
use larder::Lookup;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The tasks of a node.
pub(super) struct Following {
    desk: Arc<Desk>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

struct Desk {
    setup: Setup,
    source: Source,
    caches: Arc<Caches>,
    recorder: Arc<Recorder>,
    ending: AtomicBool,
}

/// Sessions with the source.
#[derive(Clone)]
struct Source {
    dsn: Arc<str>,
    idle: Arc<Mutex<Vec<Sql>>>,
}

impl Source {
    async fn load(&self, node: u32, key: Key, pace: Pace) -> Result<Option<Instance>, SqlError> {
        let born = now();
        let idle = self.lock().pop();
        let session = match idle.filter(|session| !session.client.is_closed()) {
            Some(session) => session,
            None => Sql::connect(&self.dsn).await?,
        };
        let state = ledger::load(&session, key).await?;
        self.lock().push(session);
        pace.pass().await;
        Ok(state.map(|state| Instance::new(&state, born, node)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Sql>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many tasks there are. The last is the sweep.
pub(super) fn tasks(setup: &Setup) -> u32 {
    setup.tasks + setup.readers + 1
}

fn key(rng: &mut fastrand::Rng) -> Key {
    let number = if rng.bool() { rng.u32(..INSTANCES / 4) } else { rng.u32(..INSTANCES) };
    match rng.u32(..4) {
        0 => Key::serial(Kind::Instance, number),
        1 => Key::host(ledger::host(number)),
        _ => Key::id(Kind::Instance, number),
    }
}

impl Following {
    pub(super) fn begin(setup: Setup, source: &str, caches: Arc<Caches>, recorder: Arc<Recorder>) -> Self {
        let source = Source { dsn: source.into(), idle: Arc::default() };
        let desk = Arc::new(Desk { setup, source, caches, recorder, ending: AtomicBool::new(false) });
        desk.recorder.rests(tasks(&desk.setup) - 1);
        let mut running = JoinSet::new();
        for task in 0..desk.setup.tasks {
            running.spawn(desk.clone().work(task));
        }
        for task in desk.setup.tasks..desk.setup.tasks + desk.setup.readers {
            running.spawn(desk.clone().read(task));
        }
        Self { desk, tasks: tokio::sync::Mutex::new(running) }
    }

    pub(super) async fn end(&self, within: Duration) -> Result<(), String> {
        self.desk.ending.store(true, Ordering::Relaxed);
        let mut tasks = self.tasks.lock().await;
        let ended = tokio::time::timeout(within, async { while tasks.join_next().await.is_some() {} });
        ended.await.map_err(|_| format!("after {} s some calls have not returned", within.as_secs()))
    }

    /// Reads all objects by every key.
    pub(super) async fn sweep(&self) {
        let sweeper = tasks(&self.desk.setup) - 1;
        let mut rng = fastrand::Rng::with_seed(0);
        for number in 0..INSTANCES {
            for key in
                [Key::id(Kind::Instance, number), Key::serial(Kind::Instance, number), Key::host(ledger::host(number))]
            {
                self.desk.recorder.begins(sweeper);
                self.desk.get(key, Patience::Endless).await;
                self.desk.get_or_load(key, Patience::Endless, Pace::instant(&mut rng)).await;
            }
        }
        self.desk.recorder.rests(sweeper);
    }
}

impl Desk {
    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    fn rng(&self, task: u32) -> fastrand::Rng {
        super::workload::rng(&self.setup, task)
    }

    fn patience(&self, rng: &mut fastrand::Rng, one_in: u32) -> Patience {
        if self.setup.cancel { Patience::random(rng, one_in) } else { Patience::Endless }
    }

    /// Loads slowly, so that changes overtake loads.
    async fn work(self: Arc<Self>, task: u32) {
        let mut rng = self.rng(task);
        while !self.is_ending() {
            self.recorder.begins(task);
            let (key, pace, patience) = (key(&mut rng), Pace::random(&mut rng), self.patience(&mut rng, 12));
            match rng.u32(..3) {
                0 => self.look_up_and_fill(key, pace, patience).await,
                _ => self.get_or_load(key, patience, pace).await,
            }
            sleep(Duration::from_millis(rng.u64(..6))).await;
        }
        self.recorder.rests(task);
    }

    /// Reads as fast as answers come, but not faster than the checker can judge.
    async fn read(self: Arc<Self>, task: u32) {
        let mut rng = self.rng(task);
        while !self.is_ending() {
            self.recorder.room().await;
            self.recorder.begins(task);
            let mut answered = false;
            match rng.u32(..10) {
                0..8 => {
                    for _ in 0..rng.u32(1..=IN_A_ROW) {
                        let patience = self.patience(&mut rng, 24);
                        answered |= self.get(key(&mut rng), patience).await;
                    }
                }
                8 => answered = self.get_many(&mut rng).await,
                _ => self.get_or_load(key(&mut rng), Patience::Endless, Pace::brisk(&mut rng)).await,
            }
            if answered {
                // An answer from memory never yields to other tasks, and hits come faster than anybody can judge them.
                sleep(Duration::from_micros(rng.u64(..3_000))).await;
            } else {
                sleep(Duration::from_millis(rng.u64(1..4))).await;
            }
        }
        self.recorder.rests(task);
    }

    /// Returns whether the get was a hit.
    async fn get(&self, key: Key, patience: Patience) -> bool {
        let begun = now();
        let got = patience.wait(self.caches.instances.get(Instance::index(key.by), key)).await;
        self.recorder.took("get", now().saturating_sub(begun));
        let Some(got) = got else {
            self.recorder.dropped();
            return false;
        };
        if let Some(object) = &got {
            self.recorder.saw(Through::Get, begun, [(key, Some(&**object))]);
        }
        got.is_some()
    }

    async fn get_many(&self, rng: &mut fastrand::Rng) -> bool {
        let first = key(rng);
        let others = std::iter::repeat_with(|| key(rng)).take(24).filter(|key| key.by == first.by);
        let keys: Vec<Key> = std::iter::once(first).chain(others.collect::<Vec<_>>()).collect();
        let begun = now();
        let got = self.caches.instances.get_many(Instance::index(first.by), keys.iter().copied()).await;
        self.recorder.count(&keys, got.len());
        let hits = keys.iter().zip(&got).filter_map(|(key, object)| Some((*key, Some(&**object.as_ref()?))));
        self.recorder.saw(Through::GetMany, begun, hits);
        got.iter().any(Option::is_some)
    }

    async fn get_or_load(&self, key: Key, patience: Patience, pace: Pace) {
        let begun = now();
        let (source, node) = (self.source.clone(), self.setup.node);
        let load = move |key| async move { source.load(node, key, pace).await };
        match patience.wait(self.caches.instances.get_or_load(Instance::index(key.by), key, load)).await {
            Some(Ok(object)) => self.recorder.saw(Through::GetOrLoad, begun, [(key, object.as_deref())]),
            // The server is away.
            Some(Err(_)) => {}
            None => self.recorder.dropped(),
        }
    }

    async fn look_up_and_fill(&self, key: Key, pace: Pace, patience: Patience) {
        let begun = now();
        match self.caches.instances.lookup(Instance::index(key.by), key).await {
            Lookup::Hit { value: object, .. } => self.recorder.saw(Through::Lookup, begun, [(key, Some(&*object))]),
            Lookup::Miss { ticket: Some(ticket), .. } => {
                if let Ok(Some(object)) = self.source.load(self.setup.node, key, pace).await
                    && patience.wait(self.caches.instances.fill(object, ticket)).await.is_none()
                {
                    self.recorder.dropped();
                }
            }
            Lookup::Miss { ticket: None, .. } => {}
        }
    }
}
