//! How objects are loaded, beyond one loader per key and node.

use std::time::Duration;

/// What a cache does about loads beside sharing them. Everything is off by default, and zero switches it off.
///
/// ```
/// use larder::LoadOptions;
/// use std::time::Duration;
///
/// let patient = LoadOptions {
///     lease: Duration::from_secs(2),
///     serve_expired: Duration::from_secs(60),
///     soft_timeout: Duration::from_millis(200),
///     ..LoadOptions::default()
/// };
/// assert!(patient.negative_age.is_zero());
/// ```
///
/// In a configuration these are settings of a cache, of the same names; with [`Schema::loading`](crate::Schema::loading) a
/// connector that is opened by hand has them. They concern [`get_or_load`](crate::Cache::get_or_load): a plain
/// [`get`](crate::Cache::get) never returns an object later than its max age.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadOptions {
    /// One load per key among all nodes, not only on this one: the others wait for its fill for at most this long, then they load
    /// themselves. It should be longer than a load takes. A node that dies while it loads holds the others up for as long.
    pub lease: Duration,
    /// An object whose max age is over within this time is served, and loaded anew in the background.
    pub refresh_ahead: Duration,
    /// How long after its max age an object may still be served, while its successor is loaded, or where that fails. What was
    /// invalidated is never served.
    pub serve_expired: Duration,
    /// How long a caller waits for the loader where there is an expired object to serve instead; zero: he does not wait. The load
    /// goes on in the background.
    pub soft_timeout: Duration,
    /// How long a caller waits at all: then he is given [`LoadError::TimedOut`](crate::LoadError::TimedOut), and the load goes on in
    /// the background.
    pub hard_timeout: Duration,
    /// How long it is remembered that the source has nothing under a key. Whatever touches that key makes it forgotten: so an object that
    /// is created, or is given a new key, has to be set, or invalidated by that key ([`invalidate_change`](crate::Cache::invalidate_change)
    /// does it by all keys).
    pub negative_age: Duration,
    /// The part of the max age, from 0 to 1, by which each object's lifetime may be shorter, at random: so that what was loaded
    /// together does not expire together.
    pub jitter: f64,
}

impl LoadOptions {
    /// Whether it matters how old an object is that was found.
    pub(crate) fn minds_age(&self) -> bool {
        !self.refresh_ahead.is_zero()
    }

    /// Whether the connector has to hear of a load that found nothing: to note it, or to end an object that has expired, or is about to,
    /// and would be served all the same.
    pub(crate) fn minds_absence(&self) -> bool {
        !(self.negative_age.is_zero() && self.serve_expired.is_zero() && self.refresh_ahead.is_zero())
    }
}
