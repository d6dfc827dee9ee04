//! Whether the services know the caches and indexes that sources name.

use super::SourceError;
use super::installed::connect;
use crate::connector::postgres::PostgresOptions;
use crate::feed::declaration::Sources;
use crate::nearest::{fold, nearest};

/// What is known of the cache and the index that a source names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Naming {
    /// The cache.
    pub cache: String,
    /// The table of the source, as it was declared.
    pub table: String,
    /// The index.
    pub index: String,
    /// Whether a service has them.
    pub known: Known,
}

/// Whether a service has a cache with an index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Known {
    /// A service has registered both in this database.
    Registered,
    /// No service has registered the cache in this database. It may be on another server, or its services have not run yet.
    NotRegistered,
    /// Services have registered the cache by another name, or without this index. Nobody would hear what the triggers tell. The text continues the
    /// sentence after the table.
    Wrong(String),
}

/// The tables are there, and this user may read them.
const READABLE: &str = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'larder' \
    AND c.relname = 'caches' AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))";

impl Sources {
    /// Compares the names of caches and indexes with those that services have registered in this database. Services register when they connect: caches
    /// that are kept there, and caches in memory that follow the feed.
    ///
    /// # Errors
    ///
    /// [`SourceError::Database`].
    pub async fn naming(&self, database: &PostgresOptions) -> Result<Vec<Naming>, SourceError> {
        let (client, _session) = connect(database).await?;
        let mut registered: Vec<(String, Vec<String>)> = Vec::new();
        if client.query_one(READABLE, &[]).await?.get(0) {
            let rows = client.query("SELECT cache, indexes FROM larder.caches", &[]).await?;
            registered.extend(rows.iter().map(|row| (row.get(0), row.get(1))));
        }
        let named = self.all().map(|(cache, source)| Naming {
            cache: cache.to_owned(),
            table: source.table.clone(),
            index: source.index.clone(),
            known: known(&registered, cache, &source.index),
        });
        Ok(named.collect())
    }
}

fn known(registered: &[(String, Vec<String>)], cache: &str, index: &str) -> Known {
    let indexes = || registered.iter().filter(|(name, _)| name == cache).flat_map(|(_, indexes)| indexes);
    if indexes().any(|known| known == index) {
        return Known::Registered;
    }
    let mut all: Vec<&str> = indexes().map(String::as_str).collect();
    if all.is_empty() {
        let other = registered.iter().map(|(name, _)| name).find(|name| fold(name) == fold(cache));
        return other.map_or(Known::NotRegistered, |other| {
            Known::Wrong(format!("calls the cache `{cache}`, which its services call `{other}`: give that name"))
        });
    }
    all.sort_unstable();
    all.dedup();
    let near = nearest(index, all.iter().copied());
    let near = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
    Known::Wrong(format!(
        "names the index `{index}`, which no release of `{cache}` has{near}: give {}",
        all.join(" or ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_or_wrong_or_nobody_has_registered_it() {
        let indexes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let registered = [
            ("instance".to_owned(), indexes(&["id", "host"])),
            ("instance".to_owned(), indexes(&["id", "domain"])),
            ("user_grant".to_owned(), indexes(&["id"])),
        ];
        assert_eq!(known(&registered, "instance", "domain"), Known::Registered);
        assert_eq!(known(&registered, "session", "id"), Known::NotRegistered);
        let wrong = |cache, index| match known(&registered, cache, index) {
            Known::Wrong(text) => text,
            other => format!("{other:?}"),
        };
        assert_eq!(
            wrong("instance", "hosts"),
            "names the index `hosts`, which no release of `instance` has (did you mean `host`?): give domain or host or id"
        );
        assert_eq!(
            wrong("userGrant", "id"),
            "calls the cache `userGrant`, which its services call `user_grant`: give that name"
        );
    }
}
