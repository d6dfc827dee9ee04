//! What is in force, compared with what is declared.

use super::SourceError;
use super::installed::{connect, installed, resolved};
use crate::connector::postgres::PostgresOptions;
use crate::feed::declaration::Sources;
use std::fmt;

/// A difference between what is declared and what is in force: a change that would be missed, or a trigger that nobody declared.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// A declared table cannot be told of as it is declared: it is not there, or has other columns or types, or this user lacks a right.
    Unusable {
        /// The table as it was declared.
        table: String,
        /// The cache that is not told as it is declared.
        cache: String,
        /// What is wrong, and what to do.
        what: String,
        /// Whether triggers of an earlier declaration are there.
        told: bool,
    },
    /// A trigger is not there.
    Missing {
        /// The table, as SQL names it.
        table: String,
        /// The cache that is not told.
        cache: String,
        /// The name of the trigger.
        trigger: String,
    },
    /// A partition was made after the triggers were installed. Changes of its rows are told; TRUNCATE of it is not.
    NewPartition {
        /// The partition, as SQL names it.
        table: String,
        /// The cache that is not told.
        cache: String,
        /// The name of the trigger that is missing.
        trigger: String,
    },
    /// A trigger is there, and is disabled, or fires in other sessions than it is declared to.
    Disabled {
        /// The table, as SQL names it.
        table: String,
        /// The cache that is not told.
        cache: String,
        /// The name of the trigger.
        trigger: String,
    },
    /// A trigger does something else than is declared: the declaration, or a column, has changed since.
    Other {
        /// The table, as SQL names it.
        table: String,
        /// The cache that is not told, or not of everything.
        cache: String,
        /// The name of the trigger.
        trigger: String,
    },
    /// A trigger tells the feed only, and the cache keeps objects in this database, has done so, or may. They miss the change.
    FeedOnly {
        /// The table, as SQL names it.
        table: String,
        /// The cache whose objects are not told.
        cache: String,
        /// The name of the trigger.
        trigger: String,
    },
    /// A trigger could tell the feed only, since the cache keeps its objects elsewhere. Nothing is missed; writers pay for more than they have to.
    TellsTooMany {
        /// The table, as SQL names it.
        table: String,
        /// The cache that it tells of.
        cache: String,
        /// The name of the trigger.
        trigger: String,
    },
    /// A trigger of larder that nothing declares. Nothing is missed.
    Undeclared {
        /// The table, as SQL names it.
        table: String,
        /// The cache that it tells of.
        cache: String,
        /// The name of the trigger.
        trigger: String,
    },
}

impl Finding {
    /// Whether a change may be missed.
    #[must_use]
    pub fn misses(&self) -> bool {
        !matches!(self, Self::Undeclared { .. } | Self::TellsTooMany { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable { table, cache, what, told } => {
                write!(f, "the source `{table}` of the cache `{cache}`: {what}")?;
                f.write_str(match told {
                    true => "; the triggers that are there tell of what they still can, or of everything",
                    false => "; its changes are not told",
                })
            }
            Self::Missing { table, cache, trigger } => {
                write!(f, "{table}: the trigger `{trigger}` is missing: the cache `{cache}` is not told of its changes")
            }
            Self::NewPartition { table, cache, .. } => {
                write!(
                    f,
                    "{table} is a new partition: the cache `{cache}` is not told of a TRUNCATE of it, and was not told of rows that it brought along"
                )
            }
            Self::Disabled { table, cache, trigger } => {
                write!(
                    f,
                    "{table}: the trigger `{trigger}` is disabled, or does not fire in all sessions that it should: the cache `{cache}` is not told of its changes"
                )
            }
            Self::Other { table, cache, trigger } => write!(
                f,
                "{table}: the trigger `{trigger}` is not what is declared: the cache `{cache}` is not told of all changes, or of too many"
            ),
            Self::FeedOnly { table, cache, trigger } => write!(
                f,
                "{table}: the trigger `{trigger}` tells the feed only: objects of the cache `{cache}` that are kept in this database are not told of its changes"
            ),
            Self::TellsTooMany { table, cache, trigger } => write!(
                f,
                "{table}: the trigger `{trigger}` also tells objects in this database, where the cache `{cache}` keeps none: it costs writers more than it has to"
            ),
            Self::Undeclared { table, cache, trigger } => {
                write!(f, "{table}: nothing declares the trigger `{trigger}`, which tells the cache `{cache}`")
            }
        }
    }
}

/// Whether a declared name means this table, as far as that can be told without the database.
fn same_name(table: &str, declared: &str) -> bool {
    let plain = |name: &str| name.replace('"', "");
    let (table, declared) = (plain(table), plain(declared));
    table == declared || table.rsplit_once('.').is_some_and(|(_, name)| name == declared)
}

impl Sources {
    /// Compares what is in force with what is declared. Nothing found: every change is told, but for what no trigger sees.
    ///
    /// # Errors
    ///
    /// [`SourceError::Database`].
    pub async fn check(&self, database: &PostgresOptions) -> Result<Vec<Finding>, SourceError> {
        let (client, _session) = connect(database).await?;
        let ((declared, wrong), there) = (resolved(self, &client).await?, installed(&client).await?);
        let mut findings: Vec<Finding> = Vec::new();
        let mut unclear: Vec<String> = Vec::new();
        for (cache, error) in wrong {
            let SourceError::Declared { table, what } = error else { return Err(error) };
            let told = there.iter().any(|there| there.cache == cache && same_name(&there.table, &table));
            findings.push(Finding::Unusable { table, cache: cache.clone(), what, told });
            unclear.push(cache);
        }
        for wanted in &declared {
            let (table, cache, trigger) = (wanted.table.clone(), wanted.cache.clone(), wanted.name.clone());
            let found = there.iter().find(|there| !there.cloned && wanted.is(&there.table, &there.name));
            // The partition is new only where the partitioned table itself has its triggers.
            let parent = wanted.partition_of.as_deref();
            let new =
                parent.is_some_and(|parent| there.iter().any(|there| there.table == parent && there.name == trigger));
            match found {
                None if new => findings.push(Finding::NewPartition { table, cache, trigger }),
                None => findings.push(Finding::Missing { table, cache, trigger }),
                Some(found) if found.does_for_others(wanted) => findings.push(match wanted.feed_only {
                    true => Finding::TellsTooMany { table, cache, trigger },
                    false => Finding::FeedOnly { table, cache, trigger },
                }),
                Some(found) if !found.does(wanted) => findings.push(Finding::Other { table, cache, trigger }),
                Some(found) if !found.fulfils(wanted) => findings.push(Finding::Disabled { table, cache, trigger }),
                Some(_) => {}
            }
        }
        for found in there {
            let (table, cache, trigger) = (found.table, found.cache, found.name);
            // Triggers of partitions that the server has made belong to that of the partitioned table, and can be disabled alone.
            let of = declared.iter().find(|declared| match found.cloned {
                true => declared.function == found.function && declared.name == trigger,
                false => declared.is(&table, &trigger),
            });
            match of {
                Some(declared) if found.cloned && declared.enabled() != found.enabled => {
                    findings.push(Finding::Disabled { table, cache, trigger });
                }
                // Nobody knows the triggers of a source that cannot be used.
                None if !found.cloned && !unclear.contains(&cache) => {
                    findings.push(Finding::Undeclared { table, cache, trigger })
                }
                _ => {}
            }
        }
        Ok(findings)
    }
}
