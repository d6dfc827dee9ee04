//! [`CacheOptions`]: where one cache keeps its objects, how long they live, and how they are loaded.

use crate::cache::COMEBACK_LOADS;
use crate::cache::audit::AuditOptions;
use crate::caches::connectors::ConnectorName;
use crate::contract::{self, LoadOptions, Schema};
use crate::entry::Entry;
use crate::feed::options::FollowOptions;
use crate::option_error::{OptionError, Refuse, setters};
use std::time::Duration;

/// The options of one cache. In a configuration they are the settings below `caches`, with the same names.
///
/// ```
/// use larder::CacheOptions;
/// use std::time::Duration;
///
/// let hour = Duration::from_secs(3600);
/// let options = CacheOptions::on("main").max_age(hour).serve_expired(hour);
/// assert_eq!(options.connector.as_str(), "main");
/// assert!(options.validate().is_ok());
///
/// let error = CacheOptions::on("main").jitter(0.1).validate().unwrap_err();
/// assert_eq!(error.option(), "jitter");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CacheOptions {
    /// The name of the connector that keeps the objects.
    pub connector: ConnectorName,
    /// How long an object lives after it was stored; zero: no limit. Default 0.
    pub max_age: Duration,
    /// How long an object lives after it was last got, at most `max_age`; zero: no limit. Default 0.
    pub last_use_age: Duration,
    /// The limit for the encoding of an object, in bytes; 1 or more. Larger objects are not stored. Default 1 MiB.
    pub max_object_size: u64,
    /// How many loads may run at once on each node after everything in the cache was removed. The limit doubles after each second, and ends
    /// after ten doublings. Zero: no limit. Default 32.
    pub comeback_loads: usize,
    /// The part of the hits that [`Caches::audit`](crate::Caches::audit) compares with their source, from 0 to 1. Default 0.
    pub audit_share: f64,
    /// How long after a change its invalidation may take before the auditor calls a served object stale. Default 5 s.
    pub audit_grace: Duration,
    /// For how long a cache is bypassed after it was found to serve a stale object; zero: it is not bypassed. Default 0.
    pub audit_bypass: Duration,
    /// The name of the feed that the cache follows: see [`CachesBuilder::feed`](crate::CachesBuilder::feed). A cache on the connector of the feed's own database
    /// hears of every change by itself, so that following makes no difference there. Default: none.
    pub feed: Option<String>,
    /// For how long after a successful poll of the feed has begun the cache is read; at least two polls, and at most a minute. Default 1 s.
    pub feed_deadline: Duration,
    /// How objects are loaded. By default everything in it is off.
    pub loading: LoadOptions,
}

impl CacheOptions {
    /// The defaults, for a cache on the connector of this name. Two connectors always exist: `memory`, and `none` for a cache that is
    /// switched off.
    pub fn on(connector: impl Into<ConnectorName>) -> Self {
        Self {
            connector: connector.into(),
            max_age: Duration::ZERO,
            last_use_age: Duration::ZERO,
            max_object_size: 1024 * 1024,
            comeback_loads: COMEBACK_LOADS,
            audit_share: 0.0,
            audit_grace: AuditOptions::default().grace,
            audit_bypass: Duration::ZERO,
            feed: None,
            feed_deadline: FollowOptions::default().deadline,
            loading: LoadOptions::default(),
        }
    }

    setters! {
        max_age: Duration,
        last_use_age: Duration,
        max_object_size: u64,
        comeback_loads: usize,
        audit_share: f64,
        audit_grace: Duration,
        audit_bypass: Duration,
        feed_deadline: Duration,
        loading: LoadOptions,
    }

    /// The same options with this [`feed`](#structfield.feed).
    #[must_use]
    pub fn feed(mut self, feed: impl Into<String>) -> Self {
        self.feed = Some(feed.into());
        self
    }

    /// The same options with this [`lease`](LoadOptions::lease).
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.loading.lease = lease;
        self
    }

    /// The same options with this [`refresh_ahead`](LoadOptions::refresh_ahead).
    #[must_use]
    pub fn refresh_ahead(mut self, refresh_ahead: Duration) -> Self {
        self.loading.refresh_ahead = refresh_ahead;
        self
    }

    /// The same options with this [`serve_expired`](LoadOptions::serve_expired).
    #[must_use]
    pub fn serve_expired(mut self, serve_expired: Duration) -> Self {
        self.loading.serve_expired = serve_expired;
        self
    }

    /// The same options with this [`soft_timeout`](LoadOptions::soft_timeout).
    #[must_use]
    pub fn soft_timeout(mut self, soft_timeout: Duration) -> Self {
        self.loading.soft_timeout = soft_timeout;
        self
    }

    /// The same options with this [`hard_timeout`](LoadOptions::hard_timeout).
    #[must_use]
    pub fn hard_timeout(mut self, hard_timeout: Duration) -> Self {
        self.loading.hard_timeout = hard_timeout;
        self
    }

    /// The same options with this [`negative_age`](LoadOptions::negative_age).
    #[must_use]
    pub fn negative_age(mut self, negative_age: Duration) -> Self {
        self.loading.negative_age = negative_age;
        self
    }

    /// The same options with this [`jitter`](LoadOptions::jitter).
    #[must_use]
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.loading.jitter = jitter;
        self
    }

    /// Checks that every option can be used, and that none contradicts another. Opening a cache refuses options that fail.
    ///
    /// # Errors
    ///
    /// The first option that cannot be used, and what is accepted. A configuration is refused for the same reasons.
    pub fn validate(&self) -> Result<(), OptionError> {
        OptionError::first(|refuse| self.examine(refuse))
    }

    /// Reports every option that cannot be used. That the connector and the feed exist is checked where they are known.
    pub(crate) fn examine(&self, refuse: Refuse<'_>) {
        contract::examine(self.max_age, self.last_use_age, self.max_object_size, &self.loading, refuse);
        self.audit().examine(&mut |error| refuse(error.within("audit_")));
        self.follow().examine(&mut |error| refuse(error.within("feed_")));
    }

    /// The schema of a cache of these entries with these options.
    pub(crate) fn schema<E: Entry>(&self) -> Schema {
        let mut schema = Schema::of::<E>().ages(self.max_age, self.last_use_age).loading(self.loading);
        schema.max_object_size = self.max_object_size;
        schema
    }

    /// How the cache follows its feed.
    pub(crate) fn follow(&self) -> FollowOptions {
        FollowOptions::new().deadline(self.feed_deadline)
    }

    /// How the cache is audited.
    pub(crate) fn audit(&self) -> AuditOptions {
        AuditOptions::new().share(self.audit_share).grace(self.audit_grace).bypass(self.audit_bypass)
    }
}
