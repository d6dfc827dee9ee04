//! [`Schema`]: what a connector must know about the cache it serves.

use crate::codec::Codec;
use crate::contract::LoadOptions;
use crate::contract::Stats;
use crate::entry::{Entry, index};
use crate::option_error::{self, OptionError, Refuse, is_name};
use std::any::{TypeId, type_name};
use std::sync::Arc;
use std::time::Duration;

/// What a connector must know about the cache it serves.
///
/// ```
/// # use larder::{Cache, Entry, Schema, connector::memory::{Memory, MemoryOptions}};
/// # use serde::{Deserialize, Serialize};
/// # use std::{sync::Arc, time::Duration};
/// # #[derive(Serialize, Deserialize, Entry)]
/// # #[entry(cache = "instance")]
/// # struct Instance { #[key(primary)] id: String }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let schema = Schema::of::<Instance>().ages(Duration::from_secs(3600), Duration::ZERO);
/// let connector = Memory::open(schema.clone(), MemoryOptions::default())?;
/// let instances: Cache<Instance> = Cache::new(Arc::new(connector), schema)?;
/// assert_eq!(instances.schema().cache(), "instance");
/// # Ok(()) }
/// ```
///
/// All clones share the same [`Stats`], so a cache and its connector count together.
#[derive(Clone, Debug)]
pub struct Schema {
    pub(crate) cache: Arc<str>,
    pub(crate) fingerprint: u64,
    pub(crate) indexes: &'static [&'static str],
    pub(crate) versioned: bool,
    pub(crate) max_age: Duration,
    pub(crate) last_use_age: Duration,
    pub(crate) max_object_size: u64,
    pub(crate) codec: Codec,
    pub(crate) loading: LoadOptions,
    pub(crate) stats: Arc<Stats>,
    /// The type of the entry, and its name.
    pub(crate) entry: (TypeId, &'static str),
}

/// The schema of another entry was given to open a cache.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the schema of the cache `{cache}` was made for `{made_for}`, and a cache of `{needed}` needs `Schema::of::<{needed}>()`"
)]
pub struct WrongSchema {
    cache: Arc<str>,
    made_for: &'static str,
    needed: &'static str,
}

pub(crate) const MAX_OBJECT_SIZE: &str = "a size of 1 B or more, such as 1 MiB";

impl Schema {
    /// The schema of an entry type, with no age limits and objects of up to 1 MiB.
    #[must_use]
    pub fn of<E: Entry>() -> Self {
        Self {
            cache: E::CACHE.into(),
            fingerprint: crate::codec::fingerprint::<E>(),
            indexes: index::names::<E>(),
            versioned: E::VERSIONED,
            max_age: Duration::ZERO,
            last_use_age: Duration::ZERO,
            max_object_size: 1024 * 1024,
            codec: Codec::of::<E>(),
            loading: LoadOptions::default(),
            stats: Arc::default(),
            entry: (TypeId::of::<E>(), type_name::<E>()),
        }
    }

    /// The same schema with these options for loads.
    #[must_use]
    pub fn loading(mut self, options: LoadOptions) -> Self {
        self.loading = options;
        self
    }

    /// The same schema with these ages. Zero disables an age. A part of a millisecond counts as a whole one. The last-use age is at most
    /// the max age.
    #[must_use]
    pub fn ages(mut self, max_age: Duration, last_use_age: Duration) -> Self {
        self.max_age = max_age;
        self.last_use_age = last_use_age;
        self
    }

    /// The same schema with this limit for the encoding of an object, in bytes, 1 or more. Larger objects are not stored.
    #[must_use]
    pub fn max_object_size(mut self, bytes: u64) -> Self {
        self.max_object_size = bytes;
        self
    }

    /// The same schema under another name than [`Entry::CACHE`]: a second cache of the same entry, with counters of its own. A name has 1
    /// to 128 letters, digits, `_`, `-` and `.`.
    #[must_use]
    pub fn named(mut self, cache: impl Into<Arc<str>>) -> Self {
        self.cache = cache.into();
        self.counted_alone()
    }

    /// The same schema with counters of its own, as on another node.
    #[must_use]
    pub fn counted_alone(mut self) -> Self {
        self.stats = Arc::default();
        self
    }

    /// The schema of a release whose entry has another shape: for tests of two releases side by side.
    #[doc(hidden)]
    #[must_use]
    pub fn with_fingerprint(mut self, fingerprint: u64) -> Self {
        self.fingerprint = fingerprint;
        self
    }

    /// The cache's name.
    #[must_use]
    pub fn cache(&self) -> &str {
        &self.cache
    }

    /// Identifies the shape of the stored bytes. Releases in which an entry has another shape differ here.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The names of the indexes, 1 to 255 of them, the primary index first. A key's `index` is a position in this list.
    #[must_use]
    pub fn indexes(&self) -> &'static [&'static str] {
        self.indexes
    }

    /// Whether objects have a version.
    #[must_use]
    pub fn is_versioned(&self) -> bool {
        self.versioned
    }

    /// How long an object lives after it was stored; zero: no limit.
    #[must_use]
    pub fn max_age(&self) -> Duration {
        self.max_age
    }

    /// How long an object lives after it was last got; zero: no limit.
    #[must_use]
    pub fn last_use_age(&self) -> Duration {
        self.last_use_age
    }

    /// The limit for the encoding of an object that is stored, in bytes.
    #[must_use]
    pub fn largest_object(&self) -> u64 {
        self.max_object_size
    }

    /// How objects are loaded, as far as what is stored depends on that.
    #[must_use]
    pub fn load_options(&self) -> &LoadOptions {
        &self.loading
    }

    /// Turns an object into bytes, and bytes into an object.
    #[must_use]
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Where the connector counts what its callers do not see.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// An error unless this is the schema of `E`.
    pub(crate) fn must_be_of<E: Entry>(&self) -> Result<(), WrongSchema> {
        let (id, made_for) = self.entry;
        if id == TypeId::of::<E>() {
            return Ok(());
        }
        Err(WrongSchema { cache: self.cache.clone(), made_for, needed: type_name::<E>() })
    }

    /// Checks that a cache can be opened with these names, ages and options. The connectors of larder refuse to open otherwise, and a
    /// connector of your own should call this, too.
    ///
    /// # Errors
    ///
    /// The first option that cannot be used, and what is accepted. A configuration is refused for the same reasons.
    pub fn validate(&self) -> Result<(), OptionError> {
        OptionError::first(|refuse| {
            if !is_name(&self.cache) {
                refuse(OptionError::new("cache", &self.cache, option_error::NAME));
            }
            for (place, name) in self.indexes.iter().enumerate() {
                if !is_name(name) {
                    refuse(OptionError::new("indexes", name, option_error::NAME));
                } else if self.indexes.iter().take(place).any(|other| other == name) {
                    refuse(OptionError::new("indexes", name, "each index a name of its own"));
                }
            }
            examine(self.max_age, self.last_use_age, self.max_object_size, &self.loading, refuse);
        })
    }

    /// The lifetime of one object: its max age, shortened by the jitter, but never less than a millisecond. Zero: no limit.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        const SHORTEST: Duration = Duration::from_millis(1);
        let (max_age, jitter) = (self.max_age, self.loading.jitter);
        if max_age.is_zero() {
            return max_age;
        }
        let mut lifetime = max_age;
        // A NaN shortens nothing.
        if jitter > 0.0 {
            let left = max_age.as_secs_f64() * (1.0 - jitter.min(1.0) * fastrand::f64());
            // The longest durations are rounded up to more than the max age.
            lifetime = Duration::try_from_secs_f64(left).map_or(max_age, |left| left.min(max_age));
        }
        // Zero would mean no limit.
        lifetime.max(SHORTEST)
    }

    /// How long an object is kept after its lifetime, to be served if the load of a new one fails.
    #[must_use]
    pub fn kept_after(&self) -> Duration {
        if self.max_age.is_zero() { Duration::ZERO } else { self.loading.serve_expired }
    }

    /// How long before the end of its lifetime an object is loaded anew.
    #[must_use]
    pub fn refresh_ahead(&self) -> Duration {
        if self.max_age.is_zero() { Duration::ZERO } else { self.loading.refresh_ahead }
    }
}

/// Checks the options that a file can give as well as code.
pub(crate) fn examine(
    max_age: Duration,
    last_use_age: Duration,
    max_object_size: u64,
    loading: &LoadOptions,
    refuse: Refuse<'_>,
) {
    if max_object_size == 0 {
        refuse(OptionError::new("max_object_size", max_object_size, MAX_OBJECT_SIZE));
    }
    if !max_age.is_zero() && last_use_age > max_age {
        let (last_use, max) = (crate::duration::show(last_use_age), crate::duration::show(max_age));
        let why = format!(
            "a last-use age of {last_use} is longer than the max age, {max}: give one of at most the max age, or 0 for either"
        );
        refuse(OptionError::contradiction("last_use_age", "max_age", why));
    }
    loading.examine(max_age, refuse);
}
