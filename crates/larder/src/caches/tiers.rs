//! [`TierOptions`]: a tiered connector, with the name of the connector that it is over.

use super::connectors::ConnectorName;
use crate::connector::tiered::TieredOptions;

/// A tiered connector: memory of this node in front of the server of another connector. In a configuration it is a connector of the kind
/// `tiered`, with the same names.
///
/// ```
/// use larder::connector::tiered::{Consistency, TieredOptions};
///
/// let near = TieredOptions::new().consistency(Consistency::Bounded).over("main");
/// assert_eq!(near.over.as_str(), "main");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TierOptions {
    /// The name of the redis or postgres connector whose server all nodes share.
    pub over: ConnectorName,
    /// How much each node keeps in its own memory, and what a change waits for.
    pub options: TieredOptions,
}

impl TieredOptions {
    /// A tier over the redis connector of this name, or over the postgres connector, with these options. Over a database it is
    /// [bounded](crate::connector::tiered::Consistency::Bounded), its caches follow the [feed](crate::CacheOptions::feed) of the database, and their `feed_deadline` stands for
    /// the validity.
    #[must_use]
    pub fn over(self, connector: impl Into<ConnectorName>) -> TierOptions {
        TierOptions { over: connector.into(), options: self }
    }
}
