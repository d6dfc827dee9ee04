//! `caches.<name>` and `defaults`: where a cache keeps its objects, and for how long.

use super::error::Problems;
use super::loading::{self, Loading};
use super::setting::{
    Given, Place, Refused, Setting, bytes, duration, number, plain, put, ratio, read, text, time, written_bytes,
};
use super::tree::{Node, Origin, Value, shown_path};
use crate::cache::audit::{self, AuditOptions};
use crate::contract::LoadOptions;
use crate::contract::{self, MAX_OBJECT_SIZE};
use crate::options::OptionError;
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
    /// Loads at once, on each node, after everything in the cache was removed; twice as many after each second, and no limit after ten.
    /// Zero: no limit. Default 32.
    pub comeback_loads: usize,
    /// The part of the hits that [`Caches::audit`](crate::Caches::audit) compares with their source, 0 to 1. Default 0.
    pub audit_share: f64,
    /// How long after a change its invalidation may take before the auditor calls what is served stale. Default 5 s.
    pub audit_grace: Duration,
    /// For how long a cache that was found to serve stale objects is not read; zero: it goes on being read. Default 0.
    pub audit_bypass: Duration,
    /// How objects are loaded. By default everything in it is off.
    pub loading: LoadOptions,
}

impl CacheConfig {
    pub(crate) const COMEBACK_LOADS: usize = 32;
    pub(crate) const AUDIT_GRACE: Duration = Duration::from_secs(5);
}

/// The settings of a cache as far as they are given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Partial {
    pub(super) connector: Option<ConnectorKind>,
    pub(super) max_age: Option<Duration>,
    pub(super) last_use_age: Option<Duration>,
    pub(super) max_object_size: Option<u64>,
    pub(super) comeback_loads: Option<usize>,
    pub(super) audit_share: Option<f64>,
    pub(super) audit_grace: Option<Duration>,
    pub(super) audit_bypass: Option<Duration>,
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
    pub(super) comeback_loads: usize,
    pub(super) audit_share: f64,
    pub(super) audit_grace: Duration,
    pub(super) audit_bypass: Duration,
    pub(super) loading: LoadOptions,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            connector: None,
            max_age: Duration::ZERO,
            last_use_age: Duration::ZERO,
            max_object_size: 1024 * 1024,
            comeback_loads: CacheConfig::COMEBACK_LOADS,
            audit_share: 0.0,
            audit_grace: CacheConfig::AUDIT_GRACE,
            audit_bypass: Duration::ZERO,
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
        give: MAX_OBJECT_SIZE,
        read: |cache, node| put(&mut cache.max_object_size, bytes(node).map(Some)),
        write: |cache| cache.max_object_size.and_then(written_bytes),
    },
    Setting {
        name: "comeback_loads",
        give: "a number of loads at once, 0 for no limit",
        read: |cache, node| put(&mut cache.comeback_loads, number(node).map(Some)),
        write: |cache| cache.comeback_loads.and_then(plain),
    },
    Setting {
        name: "audit_share",
        give: audit::SHARE,
        read: |cache, node| put(&mut cache.audit_share, ratio(node).map(Some)),
        write: |cache| cache.audit_share.and_then(plain),
    },
    Setting {
        name: "audit_grace",
        give: audit::GRACE,
        read: |cache, node| put(&mut cache.audit_grace, duration(node).map(Some)),
        write: |cache| cache.audit_grace.and_then(time),
    },
    Setting {
        name: "audit_bypass",
        give: "a duration such as 1m, or 0 for none",
        read: |cache, node| put(&mut cache.audit_bypass, duration(node).map(Some)),
        write: |cache| cache.audit_bypass.and_then(time),
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
        defaults.examine(section, &given, &section.origin, problems);
        defaults
    }

    /// Reports what cannot be used. What is not given in this section stands at `inherited`, and is reported there.
    fn examine(&self, section: &Node, given: &Given, inherited: &Origin, problems: &mut Problems) {
        let place = Place { section, given, inherited: Some(inherited) };
        let refuse = &mut |error: OptionError| place.report(&error, problems);
        contract::examine(self.max_age, self.last_use_age, self.max_object_size, &self.loading, refuse);
        let audit = AuditOptions {
            share: self.audit_share,
            grace: self.audit_grace,
            bypass: self.audit_bypass,
            ..AuditOptions::default()
        };
        audit.examine(&mut |error| refuse(error.within("audit_")));
    }

    fn overlaid(&self, partial: &Partial) -> Self {
        Self {
            connector: partial.connector.or(self.connector),
            max_age: partial.max_age.unwrap_or(self.max_age),
            last_use_age: partial.last_use_age.unwrap_or(self.last_use_age),
            max_object_size: partial.max_object_size.unwrap_or(self.max_object_size),
            comeback_loads: partial.comeback_loads.unwrap_or(self.comeback_loads),
            audit_share: partial.audit_share.unwrap_or(self.audit_share),
            audit_grace: partial.audit_grace.unwrap_or(self.audit_grace),
            audit_bypass: partial.audit_bypass.unwrap_or(self.audit_bypass),
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
            comeback_loads: self.comeback_loads,
            audit_share: self.audit_share,
            audit_grace: self.audit_grace,
            audit_bypass: self.audit_bypass,
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
            comeback_loads: Some(self.comeback_loads),
            audit_share: Some(self.audit_share),
            audit_grace: Some(self.audit_grace),
            audit_bypass: Some(self.audit_bypass),
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
        whole.examine(section, &given, origin, problems);
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
            comeback_loads: Some(self.comeback_loads),
            audit_share: Some(self.audit_share),
            audit_grace: Some(self.audit_grace),
            audit_bypass: Some(self.audit_bypass),
            loading: Loading::written(self.loading, defaults.loading),
        }
    }
}
