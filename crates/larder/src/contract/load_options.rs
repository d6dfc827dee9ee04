//! [`LoadOptions`]: how objects are loaded, beyond one loader per key and node.

use crate::duration::show;
use crate::option_error::{OptionError, Refuse, setters};
use std::time::Duration;

/// What a cache does about loads besides sharing them. By default everything is off; zero switches an option off.
///
/// ```
/// use larder::LoadOptions;
/// use std::time::Duration;
///
/// let patient = LoadOptions::new()
///     .lease(Duration::from_secs(2))
///     .serve_expired(Duration::from_secs(60))
///     .soft_timeout(Duration::from_millis(200));
/// assert!(patient.negative_age.is_zero());
/// ```
///
/// In a configuration these are settings of a cache, with the same names. For a connector that is opened by hand, give them to
/// [`Schema::loading`](crate::Schema::loading). They affect [`get_or_load`](crate::Cache::get_or_load): a plain [`get`](crate::Cache::get)
/// never returns an object whose max age is over.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// One load per key among all nodes, not only on this node. The other nodes wait for its fill for at most this long, and then load
    /// themselves. It should be longer than a load takes. A node that dies while it loads holds the other nodes up for this long.
    pub lease: Duration,
    /// An object whose max age ends within this time is served, and loaded anew in the background.
    pub refresh_ahead: Duration,
    /// How long after its max age an object may still be served, while a new one is loaded, or if that load fails. An object that was
    /// invalidated is never served.
    pub serve_expired: Duration,
    /// How long a caller waits for the loader if there is an expired object to serve instead. Zero: the caller does not wait. The load goes
    /// on in the background.
    pub soft_timeout: Duration,
    /// How long a caller waits at most. After that the caller is given [`LoadError::TimedOut`](crate::LoadError::TimedOut), and the load
    /// goes on in the background.
    pub hard_timeout: Duration,
    /// How long larder remembers that the source has nothing under a key. Whatever touches the key ends that. So an object that is created,
    /// or gets a new key, has to be set, or invalidated by that key ([`invalidate_change`](crate::Cache::invalidate_change) invalidates all
    /// keys).
    pub negative_age: Duration,
    /// By how much each object's lifetime may be shorter, at random: a part of the max age, from 0 to 1. So objects that were loaded
    /// together do not expire together.
    pub jitter: f64,
}

pub(crate) const JITTER: &str = "a part of the max age from 0 to 1, such as 0.1";

impl LoadOptions {
    /// Everything off.
    #[must_use]
    pub const fn new() -> Self {
        const OFF: Duration = Duration::ZERO;
        Self {
            lease: OFF,
            refresh_ahead: OFF,
            serve_expired: OFF,
            soft_timeout: OFF,
            hard_timeout: OFF,
            negative_age: OFF,
            jitter: 0.0,
        }
    }

    setters! {
        lease: Duration,
        refresh_ahead: Duration,
        serve_expired: Duration,
        soft_timeout: Duration,
        hard_timeout: Duration,
        negative_age: Duration,
        jitter: f64,
    }

    /// Reports options that cannot be used, and options that contradict each other, in a cache with this max age.
    pub(crate) fn examine(&self, max_age: Duration, refuse: Refuse<'_>) {
        let Self { refresh_ahead, serve_expired, soft_timeout, hard_timeout, jitter, .. } = *self;
        // A NaN is in no range.
        if !(0.0..=1.0).contains(&jitter) {
            refuse(OptionError::new("jitter", jitter, JITTER));
            return;
        }
        for (name, value) in [("refresh_ahead", refresh_ahead), ("serve_expired", serve_expired)] {
            if !value.is_zero() && max_age.is_zero() {
                let why = format!(
                    "`{name}` is {}, but without a `max_age` nothing expires: give both, or `{name}: 0`",
                    show(value)
                );
                refuse(OptionError::contradiction(name, "max_age", why));
            }
        }
        if jitter > 0.0 && max_age.is_zero() {
            let why = "`jitter` is a part of `max_age`, which has no limit: give both, or `jitter: 0`";
            refuse(OptionError::contradiction("jitter", "max_age", why.to_owned()));
        }
        let shortest = Duration::try_from_secs_f64(max_age.as_secs_f64() * (1.0 - jitter)).unwrap_or(max_age);
        if !refresh_ahead.is_zero() && !max_age.is_zero() && refresh_ahead >= shortest {
            let why = format!(
                "`refresh_ahead` is {}, and an object may live for no longer than {}, so that every get would load it anew: give less",
                show(refresh_ahead),
                show(shortest)
            );
            refuse(OptionError::contradiction("refresh_ahead", "max_age", why));
        }
        if !soft_timeout.is_zero() && serve_expired.is_zero() {
            let why = "after `soft_timeout` an expired object is served, and `serve_expired` keeps none: give both, or `soft_timeout: 0`";
            refuse(OptionError::contradiction("soft_timeout", "serve_expired", why.to_owned()));
        }
        if !hard_timeout.is_zero() && soft_timeout >= hard_timeout {
            let why = format!(
                "`soft_timeout` is {}, and a caller gives up after `hard_timeout`, {}: give a shorter soft one",
                show(soft_timeout),
                show(hard_timeout)
            );
            refuse(OptionError::contradiction("soft_timeout", "hard_timeout", why));
        }
    }

    /// Whether the age of an object that was found matters.
    pub(crate) fn minds_age(&self) -> bool {
        !self.refresh_ahead.is_zero()
    }

    /// Whether the connector has to be told of a load that found nothing. It then notes that, or ends an object that has expired, or is
    /// about to, and would otherwise be served.
    pub(crate) fn minds_absence(&self) -> bool {
        !(self.negative_age.is_zero() && self.serve_expired.is_zero() && self.refresh_ahead.is_zero())
    }
}
