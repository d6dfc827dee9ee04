//! [`DatabaseFeed`]: a feed that caches follow by its name.

use super::connectors::ConnectorName;
use crate::feed::declaration::Sources;
use crate::feed::options::FeedOptions;

/// The name that stands for no feed.
pub(crate) const NONE: &str = "none";

/// The feed of a database: which database, how it is polled, and the tables that objects are built from. In a configuration it is a section below `feed`, with
/// the same names.
///
/// ```
/// use larder::feed::{FeedOptions, Source, Sources};
/// use std::time::Duration;
///
/// let own = Source::new("projections.instances", ["id"], "id");
/// let feed = FeedOptions::new().poll(Duration::from_millis(25)).on("db").sources(Sources::new().of("instance", own));
/// assert_eq!(feed.connector.as_str(), "db");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DatabaseFeed {
    /// The name of the postgres connector whose database is polled.
    pub connector: ConnectorName,
    /// How it is polled.
    pub options: FeedOptions,
    /// The tables that objects are built from. A process that follows the feed only checks that the indexes they name exist. The command
    /// `larder feed apply`, or [`Sources::apply`](crate::feed::Sources), installs the triggers.
    pub sources: Sources,
}

impl FeedOptions {
    /// The feed of the database that this postgres connector reaches, with these options.
    #[must_use]
    pub fn on(self, connector: impl Into<ConnectorName>) -> DatabaseFeed {
        DatabaseFeed { connector: connector.into(), options: self, sources: Sources::new() }
    }
}

impl DatabaseFeed {
    /// The same with these [`sources`](#structfield.sources).
    #[must_use]
    pub fn sources(mut self, sources: Sources) -> Self {
        self.sources = sources;
        self
    }
}
