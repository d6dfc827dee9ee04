//! Connectors that a program provides.

use super::connectors::{ConnectorKind, ConnectorName};
use super::error::OpenError;
use crate::contract::{Connector, Schema};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// How often caches on such connectors are pruned, if they have ages.
pub(super) const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

/// How long a shutdown waits for what such connectors could not deliver yet.
pub(super) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

type BoxError = Box<dyn Error + Send + Sync>;
type Make = dyn Fn(Schema) -> Result<Arc<dyn Connector>, BoxError> + Send + Sync;

/// Makes a connector for each cache.
pub(super) struct Factory(Box<Make>);

impl Factory {
    pub(super) fn new<F, Err>(make: F) -> Self
    where
        F: Fn(Schema) -> Result<Arc<dyn Connector>, Err> + Send + Sync + 'static,
        Err: Into<BoxError>,
    {
        Self(Box::new(move |schema| make(schema).map_err(Into::into)))
    }
}

/// The factories, by the names of their connectors.
#[derive(Default)]
pub(super) struct Factories(BTreeMap<ConnectorName, Factory>);

impl Factories {
    pub(super) fn insert(&mut self, name: ConnectorName, factory: Factory) {
        self.0.insert(name, factory);
    }

    pub(super) fn contains(&self, name: &ConnectorName) -> bool {
        self.0.contains_key(name)
    }

    /// The factory of a connector. An error if the program does not provide it.
    pub(super) fn expect(&self, cache: &str, connector: &ConnectorName) -> Result<&Factory, OpenError> {
        self.0.get(connector).ok_or_else(|| OpenError::NoConnector {
            cache: cache.to_owned(),
            connector: connector.clone(),
            kind: ConnectorKind::Own,
            reason: format!(
                "of the kind `own`, which the program has to bring along: add it with \
                 `Caches::builder().connector(\"{connector}\", …)`, or give the cache another `connector`"
            ),
        })
    }

    pub(super) fn make(&self, connector: &ConnectorName, schema: &Schema) -> Result<Arc<dyn Connector>, OpenError> {
        let Factory(make) = self.expect(&schema.cache, connector)?;
        make(schema.clone()).map_err(|error| OpenError::Own {
            cache: schema.cache.to_string(),
            connector: connector.clone(),
            source: error.into(),
        })
    }
}
