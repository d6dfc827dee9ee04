//! The PostgreSQL server of a run. A standby may take over from it; whoever asks here gets the server that is the primary now.
//!
//! Where a standby may take over, nodes know two hosts. The servers take turns on them: the standby is on the host on which the primary is not.
//! Everybody else, whose way is not tortured, reaches the primary through one proxy, as by a name that follows it.

use crate::faults::FaultKind;
use crate::guard::{Guard, Role};
use crate::plan::Plan;
use crate::postgres;
use larder_testing::postgres::{PostgresError, PostgresServer};
use larder_testing::proxy::Proxy;
use std::sync::{Arc, Mutex, PoisonError};

/// The server that is the primary now.
pub(crate) struct Primary {
    /// The server, and on which of the hosts it is.
    present: Mutex<(Arc<PostgresServer>, usize)>,
    /// Leads to the primary. `None`: no standby ever takes over.
    name: Option<Proxy>,
}

/// Why there is no primary.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrimaryError {
    #[error("{0}")]
    Server(#[from] PostgresError),
    #[error("{0}")]
    Proxy(#[from] std::io::Error),
}

impl Primary {
    /// Starts the first primary, and tells the guard.
    pub(crate) async fn start(plan: &Plan, guard: &Guard) -> Result<Self, PrimaryError> {
        let server = postgres::start(plan).await?;
        guard.folder(server.socket());
        guard.server(Role::Primary, server.pid());
        let name = if plan.faults.contains(&FaultKind::Promote) {
            let proxy = Proxy::start(&*postgres::socket(&server)).await?;
            guard.folder_of(proxy.socket());
            Some(proxy)
        } else {
            None
        };
        Ok(Self { present: Mutex::new((Arc::new(server), 0)), name })
    }

    fn present(&self) -> (Arc<PostgresServer>, usize) {
        self.present.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn server(&self) -> Arc<PostgresServer> {
        self.present().0
    }

    /// On which of the nodes' hosts it is.
    pub(crate) fn host(&self) -> usize {
        self.present().1
    }

    /// How many hosts nodes know.
    pub(crate) fn hosts(&self) -> usize {
        if self.name.is_some() { 2 } else { 1 }
    }

    /// What a client connects with to reach the primary, whichever server that is.
    pub(crate) fn dsn(&self) -> String {
        match &self.name {
            Some(proxy) => postgres::through([proxy]),
            None => self.server().dsn(),
        }
    }

    /// A standby on the other host has taken over.
    pub(crate) fn succeeded_by(&self, server: Arc<PostgresServer>) {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(proxy) = &self.name {
            proxy.redirect(&*postgres::socket(&server));
        }
        *present = (server, 1 - present.1);
    }
}
