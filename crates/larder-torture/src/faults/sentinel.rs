//! Faults of a master, of its replica, and of the Sentinels that watch both.
//!
//! A fault that makes another server the master is over when the old master follows it. Until then the old master is a master as well, takes
//! reads and writes, and nothing but the Sentinels tells that another one has its place. Sentinels end that after some ten seconds. Here it mostly
//! ends sooner, at any time, so that more failovers happen in a run.

use super::redis::{command, fall_behind, kill, restart};
use super::{Failed, FaultKind, Maker, cut_off, moment, stop_time};
use crate::crew::Crew;
use crate::guard::Guard;
use larder_testing::server::{Reply, Server, Watched};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long it may take until another server is the master.
const PROMOTION: Duration = Duration::from_secs(120);

/// After this time somebody puts the roles in order. Sentinels need up to twenty seconds for it.
const SETTLING: Duration = Duration::from_secs(25);

/// Makes faults of the master and of its Sentinels.
pub(crate) struct BreakingSentinel {
    watched: Arc<Watched>,
    crew: Arc<Crew>,
    guard: Arc<Guard>,
}

impl BreakingSentinel {
    pub(crate) fn new(watched: Arc<Watched>, crew: Arc<Crew>, guard: Arc<Guard>) -> Self {
        Self { watched, crew, guard }
    }

    /// Waits until all Sentinels name this server as the master.
    async fn named(&self, server: &Server) -> Result<(), Failed> {
        let deadline = Instant::now() + PROMOTION;
        while self.watched.named().await.is_none_or(|(master, _)| master.port() != server.port()) {
            if Instant::now() > deadline {
                return Err(not_promoted());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Waits until one server is the master for all, and the other one follows it. A failover that came while the roles were being changed by hand can
    /// leave two servers that follow each other. Sentinels then take the master to be down, find no replica to promote, and mend nothing.
    async fn settled(&self) -> Result<(&Server, &Server), Failed> {
        let deadline = Instant::now() + PROMOTION;
        loop {
            if let Ok(settled) = tokio::time::timeout(SETTLING, self.watched.settled()).await {
                return Ok(settled?);
            }
            if Instant::now() > deadline {
                return Err(Failed::Words("the master and its replica have not found each other".to_owned()));
            }
            if let Some((master, other)) = self.expected().await {
                command(master, &["REPLICAOF", "NO", "ONE"]).await?;
                follow(other, master).await?;
            }
        }
    }

    /// The server that is to be the master, and the other one: as all Sentinels say; or, where both servers are replicas, as the first Sentinel says.
    async fn expected(&self) -> Option<(&Server, &Server)> {
        if let Some(named) = self.watched.named().await {
            return Some(named);
        }
        let Watched { master, replica, sentinels } = &*self.watched;
        for server in [master, replica] {
            if server.info("replication").await.ok()?.get("role")? == "master" {
                return None;
            }
        }
        let ask = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Watched::NAME];
        let Ok(Reply::Array(address)) = sentinels.first()?.command(&ask).await else { return None };
        let port = String::from_utf8_lossy(address.get(1)?.bytes()?).parse().ok();
        Some(if master.port() == port { (master, replica) } else { (replica, master) })
    }

    /// Lets the server go on that is the master no more, and then makes it a replica, or leaves that to the Sentinels. Returns when everything is
    /// as before, perhaps with exchanged roles.
    async fn heal(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let alone = rng.u8(..5) == 0;
        let goes_on = moment(rng, 200..7_000);
        if !alone {
            sleep(goes_on).await;
            let deadline = Instant::now() + PROMOTION;
            let (master, other) = loop {
                match self.watched.named().await {
                    Some(named) => break named,
                    None if Instant::now() > deadline => {
                        return Err(Failed::Words("the Sentinels have disagreed for two minutes".to_owned()));
                    }
                    None => sleep(Duration::from_millis(50)).await,
                }
            };
            if other.info("replication").await?.get("role").is_some_and(|role| role == "master") {
                follow(other, master).await?;
            }
        }
        self.settled().await?;
        Ok(if alone { "left to the Sentinels".to_owned() } else { format!("for {} ms", goes_on.as_millis()) })
    }

    async fn kill_master(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let (master, replica) = self.settled().await?;
        let behind = if rng.u8(..3) > 0 { Some(fall_behind(master, replica, rng).await?) } else { None };
        kill(&self.guard, master);
        if behind.is_some() {
            replica.cont()?;
        }
        let lacks = behind.map_or(0, |behind| behind.as_millis());
        if rng.u8(..4) == 0 {
            // Perhaps before any Sentinel takes it to be down.
            sleep(moment(rng, 0..700)).await;
            restart(&self.guard, master).await?;
            let healed = self.heal(rng).await?;
            return Ok(format!("it came back at once; the replica lacked {lacks} ms; {healed}"));
        }
        self.named(replica).await?;
        sleep(moment(rng, 0..1_500)).await;
        restart(&self.guard, master).await?;
        let healed = self.heal(rng).await?;
        Ok(format!("the replica took over, and lacked {lacks} ms; the old master came back as a master, {healed}"))
    }

    /// A failover while the master is in good health.
    async fn fail_over(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let deadline = Instant::now() + PROMOTION;
        loop {
            let (_, replica) = self.settled().await?;
            let sentinel =
                rng.choice(&self.watched.sentinels).ok_or_else(|| Failed::Words("no Sentinel".to_owned()))?;
            // A Sentinel that has not asked the replica for long would not promote it.
            match sentinel.command(&["SENTINEL", "FAILOVER", Watched::NAME]).await? {
                Reply::Error(error) if Instant::now() > deadline => {
                    return Err(Failed::Words(format!("SENTINEL FAILOVER was refused: {error}")));
                }
                Reply::Error(_) => {
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
                _ => {}
            }
            // A Sentinel on a busy machine gives up what it has begun, and does not begin again by itself.
            match tokio::time::timeout(SETTLING, self.named(replica)).await {
                Err(_) if Instant::now() < deadline => {}
                Err(_) => return Err(not_promoted()),
                Ok(named) => {
                    named?;
                    break;
                }
            }
        }
        Ok(format!("the old master served on, {}", self.heal(rng).await?))
    }

    async fn depose(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let (master, replica) = self.settled().await?;
        master.stop()?;
        self.named(replica).await?;
        sleep(moment(rng, 0..1_000)).await;
        master.cont()?;
        Ok(format!("it went on as a master, {}", self.heal(rng).await?))
    }

    /// Cuts the master off from its replica and from the Sentinels, which reach it by its port, but not from the nodes, which do not.
    async fn isolate(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let (master, replica) = self.settled().await?;
        let port = master.port().unwrap_or_default().to_string();
        master.config_set("port", "0").await?;
        command(master, &["CLIENT", "KILL", "LADDR", &format!("127.0.0.1:{port}")]).await?;
        let more = moment(rng, 0..3_000);
        let named = self.named(replica).await;
        sleep(more).await;
        master.config_set("port", &port).await?;
        named?;
        Ok(format!(
            "until {} ms after the promotion; it went on as a master, {}",
            more.as_millis(),
            self.heal(rng).await?
        ))
    }

    async fn stop_sentinel(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let sentinel = rng.choice(&self.watched.sentinels).ok_or_else(|| Failed::Words("no Sentinel".to_owned()))?;
        let time = moment(rng, 300..4_000);
        let killed = rng.bool();
        if killed {
            kill(&self.guard, sentinel);
            sleep(time).await;
            restart(&self.guard, sentinel).await?;
        } else {
            sentinel.stop()?;
            sleep(time).await;
            sentinel.cont()?;
        }
        self.settled().await?;
        Ok(format!("one was {} for {} ms", if killed { "killed" } else { "stopped" }, time.as_millis()))
    }
}

fn not_promoted() -> Failed {
    Failed::Words("the replica was not made the master within two minutes".to_owned())
}

async fn follow(server: &Server, master: &Server) -> Result<(), Failed> {
    let port = master.port().unwrap_or_default().to_string();
    command(server, &["REPLICAOF", "127.0.0.1", &port]).await
}

impl Maker for BreakingSentinel {
    async fn make(&self, fault: FaultKind, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        match fault {
            FaultKind::Kill => self.kill_master(rng).await,
            FaultKind::Failover => self.fail_over(rng).await,
            FaultKind::Depose => self.depose(rng).await,
            FaultKind::Isolate => self.isolate(rng).await,
            FaultKind::Sentinel => self.stop_sentinel(rng).await,
            FaultKind::Stop => {
                let (master, _) = self.settled().await?;
                let time = stop_time(rng);
                master.stop()?;
                sleep(time).await;
                master.cont()?;
                Ok(format!("the master for {} ms; {}", time.as_millis(), self.heal(rng).await?))
            }
            FaultKind::FlushAll => {
                let (master, _) = self.settled().await?;
                Ok(cut_off::flushed(&self.crew, rng, master.flushall()).await?)
            }
            FaultKind::ScriptFlush => {
                self.settled().await?.0.script_flush().await?;
                Ok(String::new())
            }
            FaultKind::ClientKill => {
                let killed = self.settled().await?.0.client_kill_all().await?;
                Ok(format!("{killed} connections"))
            }
            _ => Err(Failed::Words(format!("{fault} does not happen to a master with Sentinels"))),
        }
    }
}
