//! Opens caches as a configuration says.

use super::Config;
use crate::caches::{Caches, CachesBuilder, OpenError};
use crate::clock::Clock;
#[cfg(doc)]
use crate::contract::Connector;

impl Caches {
    /// Prepares to open caches as `config` says. Nothing is connected yet, and no server needs to be reachable.
    ///
    /// # Errors
    ///
    /// [`OpenError::NoRuntime`] outside a Tokio runtime, and [`OpenError::NoConnector`] for a cache on a connector that the program has to
    /// provide: see [`CachesBuilder::config`].
    pub async fn from_config(config: Config) -> Result<Self, OpenError> {
        CachesBuilder::from(config).open().await
    }

    /// Like [`from_config`](Self::from_config), with another clock: see [`CachesBuilder::clock`].
    ///
    /// # Errors
    ///
    /// As [`from_config`](Self::from_config).
    pub async fn on_clock(config: Config, clock: Clock) -> Result<Self, OpenError> {
        CachesBuilder::from(config).clock(clock).open().await
    }
}

impl CachesBuilder {
    /// Adds the connectors and caches of a configuration, and its defaults if they name a connector.
    ///
    /// ```
    /// # #[cfg(feature = "yaml")]
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use larder::connector::memory::{Memory, MemoryOptions};
    /// # use larder::{Caches, Config, Connector, OptionError, Schema};
    /// # use std::sync::Arc;
    /// let config = Config::from_yaml(
    ///     "
    ///     connectors: { mine: { kind: own } }
    ///     caches: { instance: { connector: mine, max_age: 1h } }
    ///     ",
    /// )?;
    /// let caches = Caches::builder()
    ///     .config(config)
    ///     .connector("mine", |schema: Schema| -> Result<Arc<dyn Connector>, OptionError> {
    ///         Ok(Arc::new(Memory::open(schema, MemoryOptions::new())?))
    ///     })
    ///     .open()
    ///     .await?;
    /// # Ok(()) }
    /// # #[cfg(not(feature = "yaml"))] fn main() {}
    /// ```
    pub fn config(self, config: Config) -> Self {
        let notes = config.notes().iter().map(ToString::to_string).collect();
        self.with_plan(config.plan(), notes)
    }
}

impl From<Config> for CachesBuilder {
    fn from(config: Config) -> Self {
        Self::default().config(config)
    }
}
