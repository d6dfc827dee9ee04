//! `caches.<name>` and `defaults`: where a cache keeps its objects, and for how long.

use super::duration::show;
use super::error::Problems;
use super::loading::{self, Loading};
use super::setting::{Given, Refused, Setting, bytes, duration, plain, put, read, text, time, written_bytes};
use super::tree::{Node, Origin, Value, shown_path};
use crate::load::LoadOptions;
use std::fmt;
use std::time::Duration;

/// What keeps the objects of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectorKind {
    /// Nothing: the cache is switched off. Written `none` or `noop`.
    Noop,
    /// This process.
    Memory,
    /// A Redis or Valkey server.
    Redis,
    /// A PostgreSQL database; this version has no such connector yet.
    Postgres,
}

impl ConnectorKind {
    /// The name as it stands in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Noop => "none",
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
        }
    }
}

impl fmt::Display for ConnectorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The settings of one cache.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheConfig {
    /// What keeps its objects.
    pub connector: ConnectorKind,
    /// Lifetime since an object was stored; zero: no limit. Default 0.
    pub max_age: Duration,
    /// Lifetime since an object was last got; zero: no limit. Default 0.
    pub last_use_age: Duration,
    /// Objects with a longer encoding, in bytes, are not stored. Default 1 MiB.
    pub max_object_size: u64,
    /// How objects are loaded. By default everything in it is off.
    pub loading: LoadOptions,
}

/// The settings of a cache as far as they are given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Partial {
    pub(super) connector: Option<ConnectorKind>,
    pub(super) max_age: Option<Duration>,
    pub(super) last_use_age: Option<Duration>,
    pub(super) max_object_size: Option<u64>,
    pub(super) loading: Loading,
}

/// What holds for caches that do not say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Defaults {
    /// None: a cache must name its connector, and one that is not in the configuration cannot be opened.
    pub(super) connector: Option<ConnectorKind>,
    pub(super) max_age: Duration,
    pub(super) last_use_age: Duration,
    pub(super) max_object_size: u64,
    pub(super) loading: LoadOptions,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            connector: None,
            max_age: Duration::ZERO,
            last_use_age: Duration::ZERO,
            max_object_size: 1024 * 1024,
            loading: LoadOptions::default(),
        }
    }
}

pub(super) const SETTINGS: &[Setting<Partial>] = &[
    Setting {
        name: "connector",
        give: "none, memory, redis or postgres",
        read: |cache, node| {
            cache.connector = Some(match text(node).map_err(|_| Refused::Shown(""))? {
                "none" | "noop" => ConnectorKind::Noop,
                "memory" => ConnectorKind::Memory,
                "redis" => ConnectorKind::Redis,
                "postgres" => ConnectorKind::Postgres,
                _ => return Err(Refused::Shown("")),
            });
            Ok(())
        },
        write: |cache| cache.connector.and_then(plain),
    },
    Setting {
        name: "max_age",
        give: "a duration such as 1h30m, or 0 for no limit",
        read: |cache, node| put(&mut cache.max_age, duration(node).map(Some)),
        write: |cache| cache.max_age.and_then(time),
    },
    Setting {
        name: "last_use_age",
        give: "a duration such as 10m, or 0 for no limit",
        read: |cache, node| put(&mut cache.last_use_age, duration(node).map(Some)),
        write: |cache| cache.last_use_age.and_then(time),
    },
    Setting {
        name: "max_object_size",
        give: "a size such as 1 MiB",
        read: |cache, node| match bytes(node)? {
            0 => Err(Refused::Shown(", and nothing could be stored")),
            size => put(&mut cache.max_object_size, Ok(Some(size))),
        },
        write: |cache| cache.max_object_size.and_then(written_bytes),
    },
    loading::LEASE,
    loading::REFRESH_AHEAD,
    loading::SERVE_EXPIRED,
    loading::SOFT_TIMEOUT,
    loading::HARD_TIMEOUT,
    loading::NEGATIVE_AGE,
    loading::JITTER,
];

impl Defaults {
    pub(super) fn read(section: &Node, problems: &mut Problems) -> Self {
        let mut partial = Partial::default();
        let given = read(section, SETTINGS, &[], &mut partial, problems);
        let defaults = Self::default().overlaid(&partial);
        check_ages(&defaults, &given, &section.origin, problems);
        loading::check(&defaults, &given, &section.origin, problems);
        defaults
    }

    fn overlaid(&self, partial: &Partial) -> Self {
        Self {
            connector: partial.connector.or(self.connector),
            max_age: partial.max_age.unwrap_or(self.max_age),
            last_use_age: partial.last_use_age.unwrap_or(self.last_use_age),
            max_object_size: partial.max_object_size.unwrap_or(self.max_object_size),
            loading: partial.loading.over(self.loading),
        }
    }

    /// The settings of a cache that has none of its own.
    pub(super) fn cache(&self) -> Option<CacheConfig> {
        Some(CacheConfig {
            connector: self.connector?,
            max_age: self.max_age,
            last_use_age: self.last_use_age,
            max_object_size: self.max_object_size,
            loading: self.loading,
        })
    }

    /// The rows as they are written.
    pub(super) fn partial(&self) -> Partial {
        Partial {
            connector: self.connector,
            max_age: Some(self.max_age),
            last_use_age: Some(self.last_use_age),
            max_object_size: Some(self.max_object_size),
            loading: Loading::written(self.loading, LoadOptions::default()),
        }
    }
}

impl CacheConfig {
    /// Reads one cache; `defaults` hold for what it does not say, and stand at `origin`.
    pub(super) fn read(section: &Node, defaults: &Defaults, origin: &Origin, problems: &mut Problems) -> Option<Self> {
        let mut partial = Partial::default();
        let given = read(section, SETTINGS, &[], &mut partial, problems);
        let whole = defaults.overlaid(&partial);
        check_ages(&whole, &given, origin, problems);
        loading::check(&whole, &given, origin, problems);
        let readable = matches!(section.value, Value::Nothing | Value::Map(_)) && section.child("connector").is_none();
        if whole.connector.is_none() && readable {
            let connectors = "none, memory, redis or postgres";
            problems.add(
                &section.origin,
                format!("has no connector: give `connector` here or in `{}` ({connectors})", shown_path(&origin.path)),
            );
        }
        whole.cache()
    }

    /// The rows as they are written, below those defaults.
    pub(super) fn partial(&self, defaults: &Defaults) -> Partial {
        Partial {
            connector: Some(self.connector),
            max_age: Some(self.max_age),
            last_use_age: Some(self.last_use_age),
            max_object_size: Some(self.max_object_size),
            loading: Loading::written(self.loading, defaults.loading),
        }
    }
}

/// An object that has outlived its max age is gone however lately it was used, so a longer last-use age was meant otherwise.
fn check_ages(ages: &Defaults, given: &Given, defaults: &Origin, problems: &mut Problems) {
    let contradictory = !ages.max_age.is_zero() && ages.last_use_age > ages.max_age;
    if !contradictory {
        return;
    }
    let inherited = |name: &str| shown_path(&defaults.child(name).path);
    let advice = "give a last-use age of at most the max age, or 0 for either";
    let (last_use, max) = (show(ages.last_use_age), show(ages.max_age));
    match (given.origin("last_use_age"), given.origin("max_age")) {
        (Some(origin), other) => {
            let other = other.map_or_else(|| inherited("max_age"), |other| shown_path(&other.path));
            problems.add(origin, format!("is {last_use}, longer than `{other}`, which is {max}: {advice}"));
        }
        (None, Some(origin)) => {
            let other = inherited("last_use_age");
            problems.add(origin, format!("is {max}, shorter than `{other}`, which is {last_use}: {advice}"));
        }
        // It is reported where it was given.
        (None, None) => {}
    }
}
