//! [`InspectedCache`]: one cache, by its name alone.

use super::{InspectError, InspectedIndex, Inspector, Progress};
use crate::connector::postgres::connection::Parameters;
use crate::connector::postgres::pruning::{Asks, prune};
use crate::connector::postgres::queries::Query;
use crate::connector::remote::{Awaited, Trouble};
use crate::contract::Pruned;
use crate::nearest::fold;
use std::collections::BTreeMap;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

const CACHES: &str = "SELECT cache, shape, followed, indexes FROM larder.caches ORDER BY cache, seen DESC, shape";

/// A release of a cache, as it has registered itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Release {
    /// The fingerprint of the release's schema.
    pub fingerprint: u64,
    /// Whether the objects are in the memory of each node, which follows the feed, and not in the database.
    pub followed: bool,
    /// The names of the indexes, the primary index first.
    pub indexes: Vec<String>,
}

/// One cache in the database of an [`Inspector`].
#[derive(Debug)]
pub struct InspectedCache<'a> {
    pub(super) server: &'a Inspector,
    pub(super) name: String,
    pub(super) releases: Vec<Release>,
}

impl Inspector {
    /// The caches that services have registered, and their releases, the one first that has connected last.
    ///
    /// # Errors
    ///
    /// [`InspectError::NotSetUp`], [`InspectError::Forbidden`], [`InspectError::Unreachable`], [`InspectError::Server`].
    pub async fn caches(&self) -> Result<BTreeMap<String, Vec<Release>>, InspectError> {
        let mut caches: BTreeMap<String, Vec<Release>> = BTreeMap::new();
        for row in self.rows(CACHES, &[]).await? {
            let release = Release {
                fingerprint: self.at::<i64>(&row, 1)?.cast_unsigned(),
                followed: self.at(&row, 2)?,
                indexes: self.at(&row, 3)?,
            };
            caches.entry(self.at(&row, 0)?).or_default().push(release);
        }
        Ok(caches)
    }

    /// The cache with this name, if a service has registered it. If no cache has exactly this name, case, `_` and `-` make no difference, as in
    /// a configuration.
    ///
    /// # Errors
    ///
    /// [`InspectError::NoCache`], which names the caches that are there; [`InspectError::Ambiguous`]; those of [`caches`](Self::caches).
    pub async fn cache(&self, name: &str) -> Result<InspectedCache<'_>, InspectError> {
        let mut caches = self.caches().await?;
        let exact = caches.contains_key(name).then(|| vec![name.to_owned()]);
        let alike = exact.unwrap_or_else(|| caches.keys().filter(|other| fold(other) == fold(name)).cloned().collect());
        match alike.as_slice() {
            [one] => {
                Ok(InspectedCache { server: self, releases: caches.remove(one).unwrap_or_default(), name: one.clone() })
            }
            [] => Err(InspectError::NoCache {
                cache: name.to_owned(),
                place: self.options.place(),
                seen: caches.into_keys().collect(),
            }),
            _ => Err(InspectError::Ambiguous { cache: name.to_owned(), seen: alike }),
        }
    }

    /// Removes what has ended, and rows of keys that lead nowhere, of **all** caches in the database: they share its tables.
    ///
    /// # Errors
    ///
    /// As [`caches`](Self::caches).
    ///
    /// # Cancellation
    ///
    /// What was removed stays removed. Nothing else is lost.
    pub async fn prune(&self, mut progress: impl FnMut(Progress, Pruned) + Send) -> Result<Pruned, InspectError> {
        prune(self, |pages, of, so_far| progress(Progress { pages, of }, so_far))
            .await
            .map_err(|trouble| super::error(&self.options, &trouble))
    }
}

impl Asks for Inspector {
    async fn ask(&self, query: Query, parameters: Parameters<'_>) -> Result<Row, Trouble> {
        tokio::time::timeout(self.options.connect_timeout, self.connection.row(query, parameters))
            .await
            .unwrap_or(Err(Trouble::TimedOut(Awaited::Connection)))
    }
}

impl<'a> InspectedCache<'a> {
    /// The name of the cache, as its services write it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The releases that have registered the cache, the one first that has connected last.
    #[must_use]
    pub fn releases(&self) -> &[Release] {
        &self.releases
    }

    /// The database that the cache is in.
    #[must_use]
    pub fn database(&self) -> &'a Inspector {
        self.server
    }

    /// The index with this name. The caller should ask whether a release [has](InspectedIndex::is_proven) such an index: with a wrong name
    /// nothing is found, and an invalidation forgets nothing and refuses no load that is under way.
    #[must_use]
    pub fn index(&self, name: &str) -> InspectedIndex<'a> {
        InspectedIndex::new(self, name)
    }

    /// Forgets everything in the cache. Nothing of it is served from then on. Services remove the rows later.
    ///
    /// # Errors
    ///
    /// As [`Inspector::caches`].
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, nobody knows whether it was done.
    pub async fn truncate(&self) -> Result<(), InspectError> {
        self.server.rows("SELECT larder.truncate($1)", &[(&self.name, Type::TEXT)]).await.map(drop)
    }
}
