//! Faults of a Redis or Valkey server.

use super::cut_off::{self, CutOff};
use super::{Failed, FaultKind, Maker, moment, stop_time};
use crate::certificates::Certificates;
use crate::crew::Crew;
use crate::deployment::role;
use crate::guard::Guard;
use larder_testing::server::{Reply, Server, ServerOptions};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// Every eviction policy.
const POLICIES: [&str; 8] = [
    "allkeys-lru",
    "volatile-ttl",
    "allkeys-random",
    "noeviction",
    "allkeys-lfu",
    "volatile-random",
    "volatile-lru",
    "volatile-lfu",
];

/// How long a server may take to be filled from another one.
const FILLING: Duration = Duration::from_secs(30);

/// How long a failed snapshot may take.
const SNAPSHOT: Duration = Duration::from_secs(5);

/// Makes faults of the server.
pub(crate) struct BreakingRedis {
    pub(super) server: Arc<Server>,
    /// If nodes use TLS.
    pub(super) certificates: Option<Arc<Certificates>>,
    crew: Arc<Crew>,
    pub(super) guard: Arc<Guard>,
    policy: AtomicUsize,
}

impl BreakingRedis {
    pub(crate) fn new(
        server: Arc<Server>,
        certificates: Option<Arc<Certificates>>,
        crew: Arc<Crew>,
        guard: Arc<Guard>,
    ) -> Self {
        Self { server, certificates, crew, guard, policy: AtomicUsize::new(0) }
    }

    fn snapshot(&self) -> PathBuf {
        self.server.socket().with_file_name("dump.rdb")
    }

    fn forget_snapshots(&self) -> Result<(), Failed> {
        match std::fs::remove_file(self.snapshot()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn evict(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let turn = self.policy.fetch_add(1, Ordering::Relaxed);
        let policy = POLICIES.get(turn % POLICIES.len()).copied().unwrap_or("allkeys-lru");
        let memory = self.server.info("memory").await?;
        let number = |field: &str| memory.get(field).and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        let (used, data) = (number("used_memory"), number("used_memory_dataset"));
        self.crew.begin_evicting().await;
        let limit = used.saturating_sub(data * rng.u64(2..70) / 100);
        self.server.config_set("maxmemory-policy", policy).await?;
        self.server.config_set("maxmemory", &limit.to_string()).await?;
        let time = moment(rng, 300..1_800);
        sleep(time).await;
        self.server.config_set("maxmemory", "0").await?;
        self.server.config_set("maxmemory-policy", "noeviction").await?;
        self.crew.end_evicting();
        Ok(format!("{policy}, {limit} of {used} bytes, for {} ms", time.as_millis()))
    }

    /// Fills the server from a copy of it that has another history, as a master is that was partitioned away and comes back. Nobody closes a connection.
    ///
    /// The copy has all that the server has. Older data would be read until the next heartbeat, which is a limit that is known.
    async fn resync(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let options = ServerOptions::default().tcp().config("repl-diskless-sync-delay 0");
        let copy = Server::start(self.server.binary(), options).await?;
        self.guard.folder_of(copy.socket());
        self.guard.server(role(&copy), copy.pid());
        self.server.config_set("repl-diskless-sync-delay", "0").await?;
        filled(&copy, &self.server).await?;
        // Until the server has its own data again, and is a master.
        command(&self.server, &["CLIENT", "PAUSE", "60000", "WRITE"]).await?;
        let refilled = self.refill_from(&copy, rng).await;
        let freed = command(&self.server, &["CLIENT", "UNPAUSE"]).await;
        kill(&self.guard, &copy);
        freed?;
        Ok(format!("it was a replica for {} ms", refilled?.as_millis()))
    }

    async fn refill_from(&self, copy: &Server, rng: &mut fastrand::Rng) -> Result<Duration, Failed> {
        let deadline = tokio::time::Instant::now() + FILLING;
        let wanted = offset(&self.server).await?;
        while offset(copy).await? < wanted {
            if tokio::time::Instant::now() > deadline {
                return Err(Failed::Words("a copy of the server has not caught up".to_owned()));
            }
            sleep(Duration::from_millis(2)).await;
        }
        command(copy, &["REPLICAOF", "NO", "ONE"]).await?;
        // Without this the server would only go on from where it is.
        command(copy, &["DEBUG", "CHANGE-REPL-ID"]).await?;
        let fills = copy.info("stats").await?;
        filled(&self.server, copy).await?;
        if copy.info("stats").await?.get("sync_full") == fills.get("sync_full") {
            return Err(Failed::Words("the server was not filled anew".to_owned()));
        }
        let replica = if rng.bool() { moment(rng, 0..50) } else { moment(rng, 50..2_000) };
        sleep(replica).await;
        command(&self.server, &["REPLICAOF", "NO", "ONE"]).await?;
        Ok(replica)
    }

    /// Makes snapshots fail: puts a folder in the place of the snapshot's file. That works for root, too.
    async fn fail_to_save(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let path = self.snapshot();
        self.forget_snapshots()?;
        std::fs::create_dir(&path)?;
        let time = moment(rng, 300..1_800);
        let failed = async {
            self.save_until("err").await?;
            sleep(time).await;
            Ok::<_, Failed>(())
        };
        let failed = failed.await;
        std::fs::remove_dir(&path)?;
        failed?;
        self.save_until("ok").await?;
        Ok(format!("for {} ms", time.as_millis()))
    }

    async fn save_until(&self, status: &str) -> Result<(), Failed> {
        let deadline = tokio::time::Instant::now() + SNAPSHOT;
        command(&self.server, &["BGSAVE"]).await?;
        loop {
            let state = self.server.info("persistence").await?;
            let is = |field: &str, value: &str| state.get(field).is_some_and(|found| found == value);
            if is("rdb_bgsave_in_progress", "0") && is("rdb_last_bgsave_status", status) {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                return Err(Failed::Words(format!("a snapshot did not end with `{status}` within 5 s")));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Makes `to` a replica of `from`, and waits until it has its data.
async fn filled(to: &Server, from: &Server) -> Result<(), Failed> {
    let port = from.port().unwrap_or_default().to_string();
    command(to, &["REPLICAOF", "127.0.0.1", &port]).await?;
    let deadline = tokio::time::Instant::now() + FILLING;
    loop {
        // While it reads the data, it answers nothing else.
        let replication = to.info("replication").await.unwrap_or_default();
        if replication.get("master_link_status").is_some_and(|link| link == "up") {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(Failed::Words("a replica was not filled within 30 s".to_owned()));
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// How far a server has come in its replication history.
async fn offset(server: &Server) -> Result<u64, Failed> {
    let replication = server.info("replication").await?;
    let field = if replication.get("role").is_some_and(|role| role == "slave") {
        "slave_repl_offset"
    } else {
        "master_repl_offset"
    };
    Ok(replication.get(field).and_then(|offset| offset.parse().ok()).unwrap_or_default())
}

/// Kills a server, and tells the guard.
pub(super) fn kill(guard: &Guard, server: &Server) {
    guard.server(role(server), None);
    server.kill();
}

/// Starts a server again, and tells the guard.
pub(super) async fn restart(guard: &Guard, server: &Server) -> Result<(), Failed> {
    server.restart().await?;
    guard.server(role(server), server.pid());
    Ok(())
}

pub(super) async fn command(server: &Server, words: &[&str]) -> Result<(), Failed> {
    match server.command(words).await? {
        Reply::Error(error) => Err(Failed::Words(format!("{} was refused: {error}", words.join(" ")))),
        _ => Ok(()),
    }
}

/// Lets a replica miss what its master answers from now on: stops the replica, and closes its connection. What the master had sent before lies in the
/// replica's socket. Returns after how long; the replica is still stopped.
pub(super) async fn fall_behind(
    master: &Server,
    replica: &Server,
    rng: &mut fastrand::Rng,
) -> Result<Duration, Failed> {
    replica.stop()?;
    command(master, &["CLIENT", "KILL", "TYPE", "replica"]).await?;
    // Less than after which the replica counts as dead.
    let time = moment(rng, 50..600);
    sleep(time).await;
    Ok(time)
}

impl Maker for BreakingRedis {
    async fn make(&self, fault: FaultKind, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        match fault {
            FaultKind::Kill => {
                let cut_off = CutOff::perhaps(&self.crew, rng);
                kill(&self.guard, &self.server);
                let down = moment(rng, if cut_off.is_some() { 0..100 } else { 0..1_200 });
                sleep(down).await;
                self.forget_snapshots()?;
                restart(&self.guard, &self.server).await?;
                let said = format!("down for {} ms", down.as_millis());
                match cut_off {
                    Some(cut_off) => Ok(format!("{said}, {}", cut_off.end().await)),
                    None => Ok(said),
                }
            }
            FaultKind::Snapshot => {
                command(&self.server, &["SAVE"]).await?;
                let age = moment(rng, 300..2_500);
                sleep(age).await;
                kill(&self.guard, &self.server);
                sleep(moment(rng, 0..600)).await;
                restart(&self.guard, &self.server).await?;
                Ok(format!("of {} ms before", age.as_millis()))
            }
            FaultKind::Stop => {
                let time = stop_time(rng);
                self.server.stop()?;
                sleep(time).await;
                self.server.cont()?;
                Ok(format!("for {} ms", time.as_millis()))
            }
            FaultKind::FlushAll => Ok(cut_off::flushed(&self.crew, rng, self.server.flushall()).await?),
            FaultKind::ScriptFlush => {
                self.server.script_flush().await?;
                Ok(String::new())
            }
            FaultKind::ClientKill => {
                let killed = self.server.client_kill_all().await?;
                Ok(format!("{killed} connections"))
            }
            FaultKind::MaxMemory => self.evict(rng).await,
            FaultKind::Certificate => self.change_certificate(rng).await,
            FaultKind::Resync => self.resync(rng).await,
            FaultKind::MisConf => self.fail_to_save(rng).await,
            _ => Err(Failed::Words(format!("{fault} does not happen to a server"))),
        }
    }
}
