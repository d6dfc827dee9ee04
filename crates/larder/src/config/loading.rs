//! The settings of a cache that say how its objects are loaded ([`LoadOptions`]).

use super::cache::Partial;
use super::setting::{Setting, duration, plain, put, ratio, time};
use crate::contract::{self, LoadOptions};
use std::time::Duration;

/// As far as they are given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Loading {
    lease: Option<Duration>,
    refresh_ahead: Option<Duration>,
    serve_expired: Option<Duration>,
    soft_timeout: Option<Duration>,
    hard_timeout: Option<Duration>,
    negative_age: Option<Duration>,
    jitter: Option<f64>,
}

macro_rules! durations {
    ($($row:ident $setting:ident $give:literal;)*) => {$(
        pub(super) const $row: Setting<Partial> = Setting {
            name: stringify!($setting),
            give: $give,
            read: |cache, node| put(&mut cache.loading.$setting, duration(node).map(Some)),
            write: |cache| cache.loading.$setting.and_then(time),
        };
    )*};
}

durations! {
    LEASE lease "a duration longer than a load takes, such as 2s, or 0 for none";
    REFRESH_AHEAD refresh_ahead "a duration such as 30s, or 0 to load when the max age is over";
    SERVE_EXPIRED serve_expired "a duration such as 5m, or 0 to serve nothing that has expired";
    SOFT_TIMEOUT soft_timeout "a duration such as 100ms, or 0 not to wait";
    HARD_TIMEOUT hard_timeout "a duration such as 5s, or 0 for no limit";
    NEGATIVE_AGE negative_age "a duration such as 5s, or 0 to remember nothing that does not exist";
}

pub(super) const JITTER: Setting<Partial> = Setting {
    name: "jitter",
    give: contract::JITTER,
    read: |cache, node| put(&mut cache.loading.jitter, ratio(node).map(Some)),
    write: |cache| cache.loading.jitter.and_then(plain),
};

impl Loading {
    pub(super) fn over(&self, below: LoadOptions) -> LoadOptions {
        LoadOptions {
            lease: self.lease.unwrap_or(below.lease),
            refresh_ahead: self.refresh_ahead.unwrap_or(below.refresh_ahead),
            serve_expired: self.serve_expired.unwrap_or(below.serve_expired),
            soft_timeout: self.soft_timeout.unwrap_or(below.soft_timeout),
            hard_timeout: self.hard_timeout.unwrap_or(below.hard_timeout),
            negative_age: self.negative_age.unwrap_or(below.negative_age),
            jitter: self.jitter.unwrap_or(below.jitter),
        }
    }

    /// What has to be written of these options, where what they stand over has those: what is off in both goes without saying.
    pub(super) fn written(options: LoadOptions, below: LoadOptions) -> Self {
        let some = |own: Duration, below: Duration| (own != Duration::ZERO || below != Duration::ZERO).then_some(own);
        Self {
            lease: some(options.lease, below.lease),
            refresh_ahead: some(options.refresh_ahead, below.refresh_ahead),
            serve_expired: some(options.serve_expired, below.serve_expired),
            soft_timeout: some(options.soft_timeout, below.soft_timeout),
            hard_timeout: some(options.hard_timeout, below.hard_timeout),
            negative_age: some(options.negative_age, below.negative_age),
            jitter: (options.jitter != 0.0 || below.jitter != 0.0).then_some(options.jitter),
        }
    }
}
