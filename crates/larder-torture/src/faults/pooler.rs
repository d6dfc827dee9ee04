//! The pooler between one node and PostgreSQL, and its restarts.

use super::{Failed, moment};
use crate::guard::{Guard, Role};
use larder_testing::pgbouncer::PgBouncer;
use larder_testing::postgres::{PostgresError, PostgresServer};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::time::sleep;

/// A PgBouncer in transaction mode.
pub(crate) struct Pooler {
    /// Locked by whoever restarts it.
    pooler: Mutex<PgBouncer>,
    guard: Arc<Guard>,
}

impl Pooler {
    /// Starts it, and tells the guard.
    pub(crate) async fn start(server: &PostgresServer, guard: Arc<Guard>) -> Result<Self, PostgresError> {
        let pooler = PgBouncer::start(server).await?;
        if let Some(folder) = pooler.socket_file().parent() {
            guard.folder(folder);
        }
        guard.server(Role::Pooler, pooler.pid());
        Ok(Self { pooler: Mutex::new(pooler), guard })
    }

    /// The file that nodes connect to.
    pub(crate) async fn socket_file(&self) -> impl AsRef<Path> + use<> {
        self.pooler.lock().await.socket_file()
    }

    /// Kills it, and starts it again after a while.
    pub(super) async fn kill_for_a_while(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let pooler = self.pooler.lock().await;
        let down = moment(rng, 0..1_200);
        self.guard.server(Role::Pooler, None);
        pooler.kill();
        sleep(down).await;
        self.restart(&pooler).await?;
        Ok(format!("down for {} ms", down.as_millis()))
    }

    /// Restarts it in front of another server.
    pub(super) async fn lead_to(&self, server: &PostgresServer) -> Result<(), Failed> {
        let pooler = self.pooler.lock().await;
        pooler.lead_to(server)?;
        self.restart(&pooler).await
    }

    async fn restart(&self, pooler: &PgBouncer) -> Result<(), Failed> {
        self.guard.server(Role::Pooler, None);
        pooler.restart().await?;
        self.guard.server(Role::Pooler, pooler.pid());
        Ok(())
    }
}
