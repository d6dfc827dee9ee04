//! One index of a cache, by name: finding, invalidating and deleting.

use super::{InspectError, InspectedCache, Inspector, Release};
use crate::connector::inspect::{Expiry, Found, FoundCopy, FoundKey, FoundObject, Listing};
use crate::connector::postgres::marks;
use crate::connector::postgres::queries::Query;
use crate::connector::postgres::server::ordered;
use crate::connector::remote::BATCH;
use crate::key;
use crate::nearest::nearest;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

const TRUSTED: &str = "SELECT c.home = larder.home() FROM larder.clock c";

/// One index of an [`InspectedCache`].
#[derive(Debug)]
pub struct InspectedIndex<'a> {
    server: &'a Inspector,
    cache: String,
    name: String,
    seen: Vec<String>,
    releases: Vec<Release>,
}

impl<'a> InspectedIndex<'a> {
    pub(super) fn new(cache: &InspectedCache<'a>, name: &str) -> Self {
        let seen: BTreeSet<String> = cache.releases.iter().flat_map(|release| &release.indexes).cloned().collect();
        Self {
            server: cache.server,
            cache: cache.name.clone(),
            name: name.to_owned(),
            seen: seen.into_iter().collect(),
            releases: cache.releases.clone(),
        }
    }

    /// Whether a release has registered the index.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.seen.contains(&self.name)
    }

    /// Whether this is the primary index, in every release that has it.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.is_proven() && !self.is(|position| position > 0)
    }

    /// The names of the indexes of all releases.
    #[must_use]
    pub fn others(&self) -> &[String] {
        &self.seen
    }

    /// If no release has this index: the index with the most similar name, if one is similar at all.
    #[must_use]
    pub fn nearest(&self) -> Option<&str> {
        nearest(&self.name, self.seen.iter().map(String::as_str)).filter(|_| !self.is_proven())
    }

    /// Whether a release has the index at such a position; the primary index is at 0.
    fn is(&self, position: impl Fn(usize) -> bool) -> bool {
        let mut indexes = self.releases.iter().flat_map(|release| release.indexes.iter().enumerate());
        indexes.any(|(at, name)| position(at) && *name == self.name)
    }

    /// Looks at what is stored under a key. This changes nothing, and prolongs no last-use age.
    ///
    /// # Errors
    ///
    /// [`InspectError::Key`], and those of [`Inspector::caches`].
    pub async fn find(&self, key: &[u8]) -> Result<Found, InspectError> {
        key::check(key)?;
        let distrusted = self.distrusted().await?;
        let mark = self.mark(key);
        let rows = self.server.query(Query::Inspect, &[&mark]).await?;
        let mut found = Found {
            distrusted,
            primary: self.is_primary().then(|| key.to_vec()),
            by_index_key: false,
            noted: false,
            copies: Vec::new(),
            without: Vec::new(),
        };
        for row in &rows {
            (found.by_index_key, found.noted) = (self.server.at(row, 0)?, self.server.at(row, 1)?);
            if let Some(copy) = self.copy(row, mark, key)? {
                let primary = copy.object.as_ref().ok().and_then(|object| object.keys.first());
                found.primary = primary.map(|primary| primary.bytes.clone()).or(found.primary);
                found.copies.push(copy);
            }
        }
        let stored: BTreeSet<u64> = found.copies.iter().map(|copy| copy.fingerprint).collect();
        let here = self.releases.iter().filter(|release| !release.followed).map(|release| release.fingerprint);
        found.without = here.filter(|release| !stored.contains(release)).collect();
        Ok(found)
    }

    /// Why services read nothing from the cache in this database.
    async fn distrusted(&self) -> Result<Option<&'static str>, InspectError> {
        if self.releases.iter().all(|release| release.followed) && !self.releases.is_empty() {
            return Ok(Some("its objects are in the memory of each node, where no command can look"));
        }
        Ok(match self.server.rows(TRUSTED, &[]).await?.first() {
            None => Some(
                "the clock of larder's tables is gone, as after a crash; the next service that connects makes one, once the \
                 transactions have ended that were prepared before (pg_prepared_xacts)",
            ),
            Some(row) if self.server.at::<bool>(row, 0)? => None,
            Some(_) => Some(
                "larder's tables came here with a copy of another database; the next service that connects empties them",
            ),
        })
    }

    /// How many of the keys lead to an object of any release. A moment later the number may be another.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find).
    pub async fn leading(&self, keys: &[Vec<u8>]) -> Result<u64, InspectError> {
        keys.iter().try_for_each(|key| key::check(key))?;
        let mut leading = 0;
        for batch in keys.chunks(BATCH) {
            for row in self.server.query(Query::Leading, &[&self.marks(batch)]).await? {
                leading += self.server.at::<i64>(&row, 0)?.unsigned_abs();
            }
        }
        Ok(leading)
    }

    /// Forgets every object that one of the keys leads to, in every release and in the caches that follow the feed. Fills whose load began
    /// before are refused. With a `floor`, lower versions are refused for a minute.
    ///
    /// # Errors
    ///
    /// [`InspectError::Unanswered`] says how many keys were handled. [`InspectError::Key`]: nothing was done.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, nobody knows which keys were handled. Nothing is remembered for later.
    pub async fn invalidate(&self, keys: &[Vec<u8>], floor: Option<u64>) -> Result<(), InspectError> {
        self.forget(keys, async |batch| {
            if let Some(floor) = floor.filter(|floor| *floor > 0) {
                // A name may be that of the primary index in one release, and of a secondary index in another.
                for primary in [true, false] {
                    if self.is(|position| (position == 0) == primary) || !self.is_proven() {
                        let (floors, primaries) = (vec![Some(ordered(floor)); batch.len()], vec![primary; batch.len()]);
                        let marks = self.marks(batch);
                        self.server.query(Query::ForgetBelow, &[&marks, &floors, &primaries]).await?;
                    }
                }
            }
            let text = "SELECT larder.invalidate_bytes($1, $2, VARIADIC $3)";
            let names =
                [(&self.cache as _, Type::TEXT), (&self.name as _, Type::TEXT), (&batch as _, Type::BYTEA_ARRAY)];
            self.server.rows(text, &names).await
        })
        .await
    }

    /// Makes just these keys miss, in every release. Caches that follow the feed forget the objects.
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn delete(&self, keys: &[Vec<u8>]) -> Result<(), InspectError> {
        self.forget(keys, async |batch| {
            let (kind, names, nobody) = (b'd'.cast_signed(), vec![self.name.as_str(); batch.len()], None::<i64>);
            let (marks, cache) = (self.marks(batch), self.cache.as_str());
            self.server.query(Query::Tell, &[&marks, &kind, &cache, &names, &batch, &nobody]).await
        })
        .await
    }

    async fn forget(
        &self,
        keys: &[Vec<u8>],
        forget: impl AsyncFn(&[Vec<u8>]) -> Result<Vec<Row>, InspectError>,
    ) -> Result<(), InspectError> {
        keys.iter().try_for_each(|key| key::check(key))?;
        for (number, batch) in keys.chunks(BATCH).enumerate() {
            forget(batch).await.map_err(|error| InspectError::Unanswered {
                done: number * BATCH,
                of: keys.len(),
                reason: error.to_string(),
            })?;
        }
        Ok(())
    }

    fn mark(&self, key: &[u8]) -> i64 {
        marks::named(&self.cache, &self.name, key)
    }

    fn marks(&self, keys: &[Vec<u8>]) -> Vec<i64> {
        keys.iter().map(|key| self.mark(key)).collect()
    }

    /// The object in a row of [`Query::Inspect`], if there is one.
    fn copy(&self, row: &Row, mark: i64, key: &[u8]) -> Result<Option<FoundCopy>, InspectError> {
        let Some(shape) = self.server.at::<Option<i64>>(row, 2)? else { return Ok(None) };
        let (object_mark, payload): (i64, &[u8]) = (self.server.at(row, 3)?, self.server.at(row, 4)?);
        let (served, expired, unused): (bool, bool, bool) =
            (self.server.at(row, 5)?, self.server.at(row, 6)?, self.server.at(row, 7)?);
        let (left, ends): (Option<f64>, Option<f64>) = (self.server.at(row, 8)?, self.server.at(row, 9)?);
        let (kinds, deleted): (Vec<&str>, Vec<i64>) = (self.server.at(row, 10)?, self.server.at(row, 11)?);
        let fingerprint = shape.cast_unsigned();
        let release = self.releases.iter().find(|release| release.fingerprint == fingerprint);
        let object = FoundObject::read(Some(fingerprint), payload).map(|mut object| {
            object.deadline = ends.map(milliseconds);
            for key in &mut object.keys {
                key.deleted = deleted.contains(&match &key.index {
                    Some(index) => marks::named(&self.cache, index, &key.bytes),
                    None => object_mark,
                });
            }
            object
        });
        let lists =
            |object: &FoundObject| object.keys.iter().any(|listed| self.is_listed(listed, object_mark, mark, key));
        let listing = match &object {
            Err(_) => Listing::Unreadable,
            _ if kinds.contains(&"t") => Listing::Truncated,
            _ if kinds.contains(&"i") => Listing::Invalidated,
            _ if kinds.contains(&"v") => Listing::Outdated,
            _ if expired => Listing::Expired,
            _ if unused => Listing::Unused,
            Ok(object) if !lists(object) => Listing::Missing,
            _ if deleted.contains(&mark) => Listing::Deleted,
            _ if served => Listing::Live,
            _ => Listing::Missing,
        };
        Ok(Some(FoundCopy {
            fingerprint,
            primary_index: release.and_then(|release| release.indexes.first().cloned()),
            bytes: payload.len() as u64,
            expiry: left.map_or(Expiry::Never, |left| Expiry::In(Duration::from_millis(milliseconds(left)))),
            listing,
            object,
        }))
    }

    /// Whether a key that an object lists is the one that was asked for. Two keys may share a mark.
    fn is_listed(&self, listed: &FoundKey, object_mark: i64, mark: i64, key: &[u8]) -> bool {
        let index = listed.index.as_ref().map_or(object_mark == mark, |index| *index == self.name);
        index && listed.bytes == key
    }
}

/// A time of the database. One that is over is none.
fn milliseconds(time: f64) -> u64 {
    Duration::try_from_secs_f64(time.max(0.0) / 1000.0)
        .map_or(u64::MAX, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
