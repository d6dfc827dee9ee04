//! [`Server`]: one connection of an inspector, to its only server or to one primary of a cluster.

use super::InspectError;
use crate::connector::redis::options::{Address, RedisOptions};
use crate::connector::redis::single::clearing;
use crate::connector::redis::wire::caller::{Caller, Direct};
use crate::connector::redis::wire::connect::Driver;
use crate::connector::redis::wire::connection::Connection;
use crate::connector::redis::wire::replies::tolerated;
use crate::connector::remote::{Trouble, What};
use redis::{Cmd, Pipeline, RedisError, Value};
use std::sync::Arc;

/// A server that an inspector is connected to.
pub(super) struct Server {
    connection: Arc<Connection>,
    /// The options of the inspector. In a cluster, their address is that of this node.
    config: RedisOptions,
    _driver: Driver,
}

impl Server {
    /// Begins to use a new connection.
    pub(super) async fn begin(
        config: RedisOptions,
        (connection, driver): (Connection, Driver),
    ) -> Result<Arc<Self>, InspectError> {
        // What the inspector forgets counts as applied.
        connection.is_alone().await;
        let server = Self { connection: Arc::new(connection), config, _driver: driver };
        // Only newer servers know this command. Without it, a server that evicts takes a look at an object for a use.
        let mut no_touch = redis::cmd("CLIENT");
        no_touch.arg("NO-TOUCH").arg("ON");
        server.tolerated(&no_touch).await?;
        Ok(Arc::new(server))
    }

    pub(super) fn caller(&self) -> Direct<'_> {
        Direct { connection: &self.connection, within: self.config.connect_timeout }
    }

    /// Where this server is. With Sentinels: the master that they have named.
    pub(super) fn address(&self) -> &Address {
        self.connection.master.as_ref().map_or(&self.config.address, |master| &master.address)
    }

    /// The history of the server's data. 0: the server does not tell it.
    pub(super) fn history(&self) -> u64 {
        self.connection.identity.history
    }

    pub(super) async fn call(&self, command: &Cmd) -> Result<Value, InspectError> {
        self.caller().call(command).await.map_err(|trouble| self.error(&trouble))
    }

    /// The reply to a command that the inspector can do without. `None`: the server does not know the command, or does not allow it.
    pub(super) async fn tolerated(&self, command: &Cmd) -> Result<Option<Value>, InspectError> {
        tolerated(self.caller().call(command).await).map_err(|trouble| self.error(&trouble))
    }

    /// Sends several commands in one round trip. Each command has its own reply, which may be an error. If one of them says that the slot of
    /// its key is elsewhere, or on its way, the whole is an error: the other replies say nothing about the cache either.
    pub(super) async fn pipeline(&self, commands: &Pipeline) -> Result<Vec<Value>, InspectError> {
        let replies = self.caller().pipeline(commands).await.map_err(|trouble| self.error(&trouble))?;
        for reply in &replies {
            if let Value::ServerError(error) = reply
                && let trouble = Trouble::from(RedisError::from(error.clone()))
                && matches!(trouble.what(), Some(What::Moved | What::Moving))
            {
                return Err(self.error(&trouble));
            }
        }
        Ok(replies)
    }

    /// In strict mode, makes sure that enough replicas have what was done.
    pub(super) async fn confirm(&self) -> Result<(), InspectError> {
        match &self.connection.confirming {
            Some(confirming) => confirming.confirm(true).await.map_err(|trouble| self.error(&trouble)),
            None => Ok(()),
        }
    }

    /// How many keys the database holds, of larder and of others. `None`: the server does not let the user ask.
    pub(super) async fn database_size(&self) -> Result<Option<u64>, InspectError> {
        match self.tolerated(&redis::cmd("DBSIZE")).await? {
            Some(Value::Int(size)) => Ok(u64::try_from(size).ok()),
            _ => Ok(None),
        }
    }

    /// Calls `each` with all names of keys that match, in batches. A name may come twice.
    pub(super) async fn walk(
        &self,
        pattern: &[u8],
        mut each: impl AsyncFnMut(Vec<Vec<u8>>) -> Result<(), InspectError>,
    ) -> Result<(), InspectError> {
        let mut cursor = b"0".to_vec();
        loop {
            let (next, names) =
                clearing::scan(&self.caller(), &cursor, pattern).await.map_err(|trouble| self.error(&trouble))?;
            each(names).await?;
            if next == b"0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    pub(super) fn error(&self, trouble: &Trouble) -> InspectError {
        error(&self.config, trouble)
    }
}

/// The error of a server with these options.
pub(super) fn error(config: &RedisOptions, trouble: &Trouble) -> InspectError {
    let reason = match (trouble, trouble.what()) {
        (Trouble::TimedOut(_), _) => format!("no reply within {:?} (connect_timeout)", config.connect_timeout),
        (_, Some(What::Moved)) => format!("the slot of the cache is on another node now ({trouble}); repeat it"),
        (_, Some(What::Moving)) => {
            format!(
                "the slot of the cache is on its way to another node ({trouble}); repeat it when the slot has arrived"
            )
        }
        (other, _) => other.to_string(),
    };
    InspectError::Server { server: config.place(), reason }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("config", &self.config).finish_non_exhaustive()
    }
}
