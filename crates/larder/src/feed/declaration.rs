//! [`Sources`]: which tables the objects of each cache are built from, as code or a configuration declares it.

use crate::option_error::{NAME, OptionError, Refuse, is_name};
use std::collections::{BTreeMap, BTreeSet};

/// A table, view of it or not, whose rows an object is built from.
///
/// ```
/// use larder::feed::Source;
///
/// // An instance is built from its row, and from those of its domains.
/// let own = Source::new("projections.instances", ["id"], "id");
/// let domains = Source::new("projections.instance_domains", ["instance_id"], "id").columns(["domain", "is_primary"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Source {
    /// The table, with its schema: `schema.table`. Upper case and other signs in double quotes, as in SQL.
    pub table: String,
    /// The columns whose values are the key, in the order of the key's parts.
    pub key: Vec<String>,
    /// The index of the entry that the key is of.
    pub index: String,
    /// The columns that an object is built from. An update that changes neither them nor the key tells nothing. Empty: every update tells.
    pub columns: Vec<String>,
    /// Whether the triggers fire on a subscriber of logical replication, and in sessions with `session_replication_role = replica`. They are row triggers then.
    pub always: bool,
}

impl Source {
    /// Every change of a row tells of the key in these columns.
    pub fn new<K: Into<String>>(
        table: impl Into<String>,
        key: impl IntoIterator<Item = K>,
        index: impl Into<String>,
    ) -> Self {
        let key = key.into_iter().map(Into::into).collect();
        Self { table: table.into(), key, index: index.into(), columns: Vec::new(), always: false }
    }

    /// The same with these [`columns`](#structfield.columns).
    #[must_use]
    pub fn columns<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.columns = columns.into_iter().map(Into::into).collect();
        self
    }

    /// The same with triggers that [always](#structfield.always) fire.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.always = true;
        self
    }
}

/// What an error says to give.
pub(crate) const TABLE: &str = "a table with its schema, such as app.instances";
pub(crate) const KEY: &str = "the column whose value is the key, or a list of the columns of its parts";
pub(crate) const COLUMNS: &str = "a list of the columns that objects are built from";

impl Source {
    /// Reports everything that no database allows.
    pub(crate) fn examine(&self, refuse: Refuse<'_>) {
        if self.table.trim().is_empty() {
            refuse(OptionError::new("table", &self.table, TABLE));
        }
        if self.key.is_empty() {
            refuse(OptionError::new("key", "an empty list", KEY));
        }
        if !is_name(&self.index) {
            refuse(OptionError::new("index", &self.index, NAME));
        }
        for (option, names, accepted) in [("key", &self.key, KEY), ("columns", &self.columns, COLUMNS)] {
            let twice = |(at, name): (usize, &String)| names.iter().take(at).any(|before| before == name);
            if let Some((_, name)) = names.iter().enumerate().find(|(at, name)| name.is_empty() || twice((*at, name))) {
                let what = if name.is_empty() {
                    "a list with an empty name".to_owned()
                } else {
                    format!("a list with {name} twice")
                };
                refuse(OptionError::new(option, what, accepted));
            }
        }
    }
}

/// The sources of each cache.
///
/// ```
/// use larder::feed::{Source, Sources};
///
/// let sources = Sources::new()
///     .of("instance", Source::new("projections.instances", ["id"], "id"))
///     .of("instance", Source::new("projections.restrictions", ["instance_id"], "id"));
/// assert_eq!(sources.all().count(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    of: BTreeMap<String, Vec<Source>>,
    elsewhere: BTreeSet<String>,
}

impl Sources {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same and one more source of this cache, which is named exactly as its entry type names it.
    #[must_use]
    pub fn of(mut self, cache: impl Into<String>, source: Source) -> Self {
        self.of.entry(cache.into()).or_default().push(source);
        self
    }

    /// The same, where this cache keeps its objects elsewhere than in the database of these sources, for instance in memory or on Redis. Its triggers then
    /// tell the feed only, which costs writers less. A cache of which a service has ever kept objects in that database is told of in full all the same. And
    /// such a service finds the triggers when it comes later: it says so in its log, and caches nothing until the triggers were
    /// [applied](Self::apply) without this.
    #[must_use]
    pub fn elsewhere(mut self, cache: impl Into<String>) -> Self {
        self.elsewhere.insert(cache.into());
        self
    }

    /// Whether this cache is declared to keep its objects elsewhere.
    #[cfg(feature = "postgres")]
    pub(crate) fn is_elsewhere(&self, cache: &str) -> bool {
        self.elsewhere.contains(cache)
    }

    /// The names of the caches, in alphabetical order.
    pub fn caches(&self) -> impl Iterator<Item = &str> {
        self.of.keys().map(String::as_str)
    }

    /// Each source and the name of its cache, in the alphabetical order of the caches.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.of.iter().flat_map(|(cache, sources)| sources.iter().map(|source| (cache.as_str(), source)))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Checks what can be checked without the database.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be used, and what is accepted.
    pub fn validate(&self) -> Result<(), OptionError> {
        OptionError::first(|refuse| {
            self.caches()
                .filter(|cache| !is_name(cache))
                .for_each(|cache| refuse(OptionError::new("cache", cache, NAME)));
            self.all().for_each(|(_, source)| source.examine(refuse));
        })
    }
}
