//! [`Schema`]: what a connector must know about the cache it serves.

use crate::codec::Codec;
use crate::contract::LoadOptions;
use crate::contract::Stats;
use crate::entry::{Entry, index};
use crate::options::{self, OptionError, Refuse, is_name};
use std::sync::Arc;
use std::time::Duration;

/// What a connector must know about the cache it serves.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The cache's name: 1 to 128 letters, digits, `_`, `-` and `.`.
    pub cache: Arc<str>,
    /// Identifies the shape of the stored bytes: different releases of an entry differ here.
    pub fingerprint: u64,
    /// The names of the indexes, each like that of a cache; the primary index is the first. There are 1 to 255 of them.
    pub indexes: &'static [&'static str],
    /// Whether objects carry a version.
    pub versioned: bool,
    /// Lifetime since the object was stored; zero: no limit. A part of a millisecond counts as a whole one.
    pub max_age: Duration,
    /// Lifetime since the object was last got, at most `max_age`; zero: no limit. A part of a millisecond counts as a whole one.
    pub last_use_age: Duration,
    /// Objects with a longer encoding, in bytes, are not stored; 1 or more.
    pub max_object_size: u64,
    /// Bytes of an object and back.
    pub codec: Codec,
    /// How objects are loaded, as far as what is stored depends on it.
    pub loading: LoadOptions,
    /// Where the connector counts what its callers do not see.
    pub stats: Arc<Stats>,
}

pub(crate) const MAX_OBJECT_SIZE: &str = "a size of 1 B or more, such as 1 MiB";

impl Schema {
    /// The schema of an entry type, with no age limits and objects of up to 1 MiB.
    #[must_use]
    pub fn of<E: Entry>() -> Self {
        Self {
            cache: E::CACHE.into(),
            fingerprint: crate::codec::fingerprint::<E>(),
            indexes: index::names::<E::Index>(),
            versioned: E::VERSIONED,
            max_age: Duration::ZERO,
            last_use_age: Duration::ZERO,
            max_object_size: 1024 * 1024,
            codec: Codec::of::<E>(),
            loading: LoadOptions::default(),
            stats: Arc::default(),
        }
    }

    /// The same, loaded in this way.
    #[must_use]
    pub fn loading(mut self, options: LoadOptions) -> Self {
        self.loading = options;
        self
    }

    /// The same with these ages; zero disables either.
    #[must_use]
    pub fn ages(mut self, max_age: Duration, last_use_age: Duration) -> Self {
        self.max_age = max_age;
        self.last_use_age = last_use_age;
        self
    }

    /// Whether a cache can be opened with these names, ages and options. The connectors of larder refuse to be opened otherwise; a
    /// connector of your own does well to ask, too.
    ///
    /// # Errors
    ///
    /// The first option that cannot be used, and what is accepted: the same that is refused where a configuration says it.
    pub fn validate(&self) -> Result<(), OptionError> {
        OptionError::first(|refuse| {
            if !is_name(&self.cache) {
                refuse(OptionError::new("cache", &self.cache, options::NAME));
            }
            if !(1..=index::MOST).contains(&self.indexes.len()) {
                refuse(OptionError::new("indexes", format!("{} names", self.indexes.len()), "1 to 255 names"));
            }
            for (place, name) in self.indexes.iter().enumerate() {
                if !is_name(name) {
                    refuse(OptionError::new("indexes", name, options::NAME));
                } else if self.indexes.iter().take(place).any(|other| other == name) {
                    refuse(OptionError::new("indexes", name, "each index a name of its own"));
                }
            }
            examine(self.max_age, self.last_use_age, self.max_object_size, &self.loading, refuse);
        })
    }

    /// The lifetime of one object: its max age, less what the jitter takes, and never less than a millisecond; zero: no limit.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        const SHORTEST: Duration = Duration::from_millis(1);
        let (max_age, jitter) = (self.max_age, self.loading.jitter);
        if max_age.is_zero() {
            return max_age;
        }
        let mut lifetime = max_age;
        // A NaN takes nothing.
        if jitter > 0.0 {
            let left = max_age.as_secs_f64() * (1.0 - jitter.min(1.0) * fastrand::f64());
            // The longest durations are rounded up to more than there is.
            lifetime = Duration::try_from_secs_f64(left).map_or(max_age, |left| left.min(max_age));
        }
        // Zero would be for ever.
        lifetime.max(SHORTEST)
    }

    /// How long an object is kept after its lifetime, to be served where the load of its successor fails.
    #[must_use]
    pub fn kept_after(&self) -> Duration {
        if self.max_age.is_zero() { Duration::ZERO } else { self.loading.serve_expired }
    }

    /// How long before its end an object is loaded anew.
    #[must_use]
    pub fn refresh_ahead(&self) -> Duration {
        if self.max_age.is_zero() { Duration::ZERO } else { self.loading.refresh_ahead }
    }
}

/// What a file says of a cache as well as code does.
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
