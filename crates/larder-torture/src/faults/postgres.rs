//! Faults of a PostgreSQL server.

use super::{Failed, FaultKind, Maker, Pooler, moment, stop_time};
use crate::crew::Crew;
use crate::guard::{Guard, Role};
use crate::postgres::{Sql, SqlError};
use crate::primary::Primary;
use rustix::process::{Pid, Signal, kill_process};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a shutdown, or a recovery, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The sessions of nodes.
const SESSIONS: &str = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

/// Makes faults of the server.
pub(crate) struct BreakingPostgres {
    pub(super) primary: Arc<Primary>,
    pub(super) pooler: Option<Arc<Pooler>>,
    pub(super) crew: Arc<Crew>,
    pub(super) guard: Arc<Guard>,
}

impl BreakingPostgres {
    pub(crate) fn new(primary: Arc<Primary>, pooler: Option<Arc<Pooler>>, crew: Arc<Crew>, guard: Arc<Guard>) -> Self {
        Self { primary, pooler, crew, guard }
    }

    /// Stops a node, removes all changes, and lets the node continue: it has missed some for ever.
    async fn gap(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let place = rng.usize(..self.crew.places());
        let Some(node) = self.crew.pid(place).await else { return Ok("there was no node".to_owned()) };
        send(Some(node), Signal::STOP)?;
        let time = moment(rng, 100..2_000);
        sleep(time).await;
        let trimmed = self.trim().await;
        send(Some(node), Signal::CONT)?;
        trimmed?;
        Ok(format!("node {} for {} ms", self.crew.node_at(place), time.as_millis()))
    }

    async fn trim(&self) -> Result<(), Failed> {
        let session = self.session().await?;
        // As if ten minutes had passed.
        session
            .run("INSERT INTO larder.moments (taken, snapshot) SELECT now() - interval '11 minutes', pg_current_snapshot()")
            .await?;
        while session.number::<String>("SELECT larder.trim(1000)").await? == "t" {}
        Ok(())
    }

    /// A session that waits for the server, if the server has to recover first.
    pub(super) async fn session(&self) -> Result<Sql, Failed> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Sql::connect(&self.primary.server().dsn()).await {
                Ok(session) => return Ok(session),
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn kill_for(&self, down: Duration) -> Result<(), Failed> {
        self.guard.server(Role::Primary, None);
        self.primary.server().kill();
        sleep(down).await;
        self.start_again().await
    }

    async fn start_again(&self) -> Result<(), Failed> {
        let server = self.primary.server();
        server.restart().await?;
        self.guard.server(Role::Primary, server.pid());
        Ok(())
    }

    /// Asks the server to end: waits for its sessions to be told (fast), or not (immediate). Returns when it has ended.
    async fn shut_down(&self, signal: Signal) -> Result<(), Failed> {
        let server = self.primary.server();
        send(server.pid(), signal)?;
        let deadline = Instant::now() + PATIENCE;
        while server.pid().is_some() {
            if Instant::now() > deadline {
                return Err(Failed::Words("the server did not shut down within a minute".to_owned()));
            }
            sleep(Duration::from_millis(5)).await;
        }
        self.guard.server(Role::Primary, None);
        Ok(())
    }

    /// A session of some node, at random.
    async fn some_session(&self) -> Result<Option<u32>, Failed> {
        let text = format!("SELECT pid {SESSIONS} ORDER BY random() LIMIT 1");
        Ok(self.session().await?.column(&text).await?.first().and_then(|pid| pid.parse().ok()))
    }

    async fn crash(&self) -> Result<String, Failed> {
        let before = self.session().await?;
        let Some(victim) = self.some_session().await? else { return Ok("there was no session".to_owned()) };
        send(Some(victim), Signal::KILL)?;
        // All sessions end, this one as well, before the server recovers.
        let deadline = Instant::now() + PATIENCE;
        while before.run("SELECT 1").await.is_ok() {
            if Instant::now() > deadline {
                return Err(Failed::Words("the server did not notice that a session was killed".to_owned()));
            }
            sleep(Duration::from_millis(5)).await;
        }
        self.session().await?;
        Ok(format!("session {victim}"))
    }

    /// Takes connections until there are none left, and ends those of the nodes meanwhile.
    async fn crowd(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let first = self.session().await?;
        let time = moment(rng, 300..1_800);
        let end = Instant::now() + time;
        let mut crowd = Vec::new();
        let mut ended = false;
        while Instant::now() < end {
            match Sql::connect(&self.primary.server().dsn()).await {
                Ok(session) => crowd.push(session),
                Err(_) if !ended => {
                    // Only those that are not of the crowd: it stays.
                    let text = format!("SELECT count(pg_terminate_backend(pid)) {SESSIONS} AND query LIKE '%larder.%'");
                    let _: u32 = first.number(&text).await?;
                    ended = true;
                }
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
        Ok(format!("of {}, for {} ms", crowd.len() + 1, time.as_millis()))
    }

    /// Locks rows of secondary keys: a fill waits for them after its check, and a sweep does not.
    async fn hold(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let session = self.session().await?;
        session.run("BEGIN").await?;
        let one_in = rng.u32(2..8);
        let text = format!(
            "SELECT count(*) FROM (SELECT FROM larder.keys WHERE abs(mark % {one_in}) = 0 ORDER BY mark FOR UPDATE SKIP LOCKED) l"
        );
        let rows: u32 = session.number(&text).await?;
        let time = moment(rng, 100..900);
        sleep(time).await;
        session.run("ROLLBACK").await?;
        Ok(format!("{rows} rows, for {} ms", time.as_millis()))
    }

    async fn stay_open(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let session = self.session().await?;
        let level = if rng.bool() { "REPEATABLE READ" } else { "READ COMMITTED" };
        session.run(&format!("BEGIN ISOLATION LEVEL {level}; {}", invalidations(rng))).await?;
        let time = moment(rng, 300..2_500);
        sleep(time).await;
        let end = if rng.bool() { "COMMIT" } else { "ROLLBACK" };
        session.run(end).await?;
        Ok(format!("{level}, for {} ms, {end}", time.as_millis()))
    }

    async fn prepare(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let name = format!("torture-{}", rng.u64(..));
        let session = self.session().await?;
        session.run(&format!("BEGIN; {} PREPARE TRANSACTION '{name}'", invalidations(rng))).await?;
        let time = moment(rng, 50..1_500);
        let killed = rng.bool();
        sleep(time).await;
        if killed {
            self.kill_for(moment(rng, 0..300)).await?;
            // Nothing is cached until it has ended, and the nodes are to notice that.
            sleep(moment(rng, 100..1_500)).await;
        }
        let word = if rng.bool() { "COMMIT" } else { "ROLLBACK" };
        self.end_prepared(&format!("{word} PREPARED '{name}'")).await?;
        let over = if killed { ", over a kill of the server" } else { "" };
        Ok(format!("for {} ms{over}, {word}", time.as_millis()))
    }

    async fn end_prepared(&self, text: &str) -> Result<(), Failed> {
        match self.session().await?.run(text).await {
            // An attempt before this one has done it, and its answer was lost.
            Err(error) if error.state() == Some("42704") => Ok(()),
            ended => Ok(ended?),
        }
    }
}

/// Invalidations of some instances, by keys that they may have, or of all.
fn invalidations(rng: &mut fastrand::Rng) -> String {
    if rng.u32(..8) == 0 {
        return "SELECT larder.truncate('instance');".to_owned();
    }
    let ids: Vec<String> = (0..rng.u32(1..20)).map(|_| format!("'i{:05}'", rng.u32(..32))).collect();
    format!("SELECT larder.invalidate('instance', 'id', {});", ids.join(", "))
}

pub(super) fn send(pid: Option<u32>, signal: Signal) -> Result<(), Failed> {
    let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let pid = pid.ok_or_else(|| Failed::Words("the process is not running".to_owned()))?;
    match kill_process(pid, signal) {
        // A session may have ended meanwhile.
        Err(rustix::io::Errno::SRCH) => Ok(()),
        sent => Ok(sent.map_err(std::io::Error::from)?),
    }
}

impl Maker for BreakingPostgres {
    async fn make(&self, fault: FaultKind, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        match fault {
            FaultKind::Kill => {
                let down = moment(rng, 0..1_200);
                self.kill_for(down).await?;
                Ok(format!("down for {} ms", down.as_millis()))
            }
            FaultKind::Crash => self.crash().await,
            FaultKind::Restart => {
                let (signal, how) = if rng.bool() { (Signal::INT, "fast") } else { (Signal::QUIT, "immediate") };
                self.shut_down(signal).await?;
                sleep(moment(rng, 0..400)).await;
                self.start_again().await?;
                Ok(how.to_owned())
            }
            FaultKind::Stop => {
                let time = stop_time(rng);
                let server = self.primary.server();
                server.stop()?;
                sleep(time).await;
                server.cont()?;
                Ok(format!("for {} ms", time.as_millis()))
            }
            FaultKind::Freeze => {
                let Some(session) = self.some_session().await? else { return Ok("there was no session".to_owned()) };
                let time = moment(rng, 50..1_500);
                send(Some(session), Signal::STOP)?;
                sleep(time).await;
                send(Some(session), Signal::CONT)?;
                Ok(format!("session {session} for {} ms", time.as_millis()))
            }
            FaultKind::Terminate => {
                let which = if rng.bool() { "" } else { " AND random() < 0.3" };
                let text = format!("SELECT count(pg_terminate_backend(pid)) {SESSIONS}{which}");
                let count: u32 = self.session().await?.number(&text).await?;
                Ok(format!("{count} sessions"))
            }
            FaultKind::Gap => self.gap(rng).await,
            FaultKind::Promote => self.promote(rng).await,
            FaultKind::Crowd => self.crowd(rng).await,
            FaultKind::Hold => match self.hold(rng).await {
                // Before the first node has made the tables.
                Err(Failed::Sql(error)) if error.state() == Some("42P01") => Ok("there were no tables".to_owned()),
                held => held,
            },
            FaultKind::Long => unless_missing(self.stay_open(rng).await),
            FaultKind::Prepared => unless_missing(self.prepare(rng).await),
            _ => Err(Failed::Words(format!("{fault} does not happen to a PostgreSQL server"))),
        }
    }
}

/// Before the first node has made the functions, there is nothing to call.
fn unless_missing(made: Result<String, Failed>) -> Result<String, Failed> {
    const MISSING: [&str; 2] = ["42883", "3F000"];
    match made {
        Err(Failed::Sql(error @ SqlError::Server(_)))
            if error.state().is_some_and(|state| MISSING.contains(&state)) =>
        {
            Ok("there were no functions".to_owned())
        }
        made => made,
    }
}
