//! A standby that takes over.
//!
//! 1. A copy of the primary's data follows the primary, on the host on which the primary is not. Nodes that connect meanwhile pass it over.
//! 2. The primary waits with each commit until the standby has it (`synchronous_standby_names`). So nothing that anybody was told, or has read, can get lost, and
//!    the judge need not allow for it.
//! 3. The primary is killed with all its sessions at one moment. Sessions that outlived it would stop to wait for the standby, and show commits
//!    that the standby does not have.
//! 4. After a while the standby is promoted. Its unlogged tables are empty.
//!
//! A primary that lives on beside the new one is not played: two databases that both take themselves for the primary are a limit of the protocol.

use super::postgres::BreakingPostgres;
use super::{Failed, moment};
use crate::guard::Role;
use crate::postgres::{self, Sql};
use larder_testing::postgres::PostgresServer;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

/// How long a standby may take to catch up, or to take over.
const PATIENCE: Duration = Duration::from_secs(60);

impl BreakingPostgres {
    pub(super) async fn promote(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let old = self.primary.server();
        // Which other tasks of this thread need not wait for.
        let standby = Arc::new(block_in_place(|| old.copied())?);
        self.guard.folder(standby.socket());
        standby.restart().await?;
        self.guard.server(Role::Standby, standby.pid());
        let host = 1 - self.primary.host();
        for (_, way) in self.crew.ways().filter(|(_, way)| !way.pooled) {
            if let Some(proxy) = way.postgres.get(host) {
                proxy.redirect(&*postgres::socket(&standby));
            }
        }
        self.wait_for_it(&old).await?;
        sleep(moment(rng, 100..1_000)).await;

        self.guard.server(Role::Primary, None);
        old.kill_at_once()?;
        let down = moment(rng, 0..800);
        sleep(down).await;
        let promoted: String = Sql::connect(&standby.dsn()).await?.number("SELECT pg_promote(true, 60)").await?;
        if promoted != "t" {
            return Err(Failed::Words("the standby was not promoted within a minute".to_owned()));
        }
        self.guard.server(Role::Primary, standby.pid());
        self.guard.server(Role::Standby, None);
        if let Some(pooler) = &self.pooler {
            pooler.lead_to(&standby).await?;
        }
        self.primary.succeeded_by(standby);
        self.session().await?;
        Ok(format!("on host {host}, after {} ms without a primary", down.as_millis()))
    }

    /// From now on every commit waits for the standby. Returns when the standby has every commit from before.
    async fn wait_for_it(&self, primary: &PostgresServer) -> Result<(), Failed> {
        let session = Sql::connect(&primary.dsn()).await?;
        session.run("ALTER SYSTEM SET synchronous_standby_names = '*'").await?;
        session.run("SELECT pg_reload_conf()").await?;
        let wait = async |asked: &str| {
            let deadline = Instant::now() + PATIENCE;
            while session.number::<u32>(asked).await? == 0 {
                if Instant::now() > deadline {
                    return Err(Failed::Words("the standby did not catch up within a minute".to_owned()));
                }
                sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        wait("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").await?;
        // Commits wait once the process that makes checkpoints has read the settings. It does that before it makes one.
        session.run("CHECKPOINT").await?;
        session.run("CHECKPOINT").await?;
        let end: String = session.number("SELECT pg_current_wal_lsn()").await?;
        wait(&format!("SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= '{end}'")).await
    }
}
