//! The settings of a cache that say how its objects are loaded ([`LoadOptions`]).

use super::cache::{Defaults, Partial};
use super::duration::show;
use super::error::Problems;
use super::setting::{Given, Setting, duration, plain, put, ratio, time};
use super::tree::{Origin, shown_path};
use crate::load::LoadOptions;
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
    give: "a part of the max age from 0 to 1, such as 0.1",
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

/// Settings that contradict each other, or that nothing would come of, wherever each of them was given.
pub(super) fn check(cache: &Defaults, given: &Given, defaults: &Origin, problems: &mut Problems) {
    let LoadOptions { refresh_ahead, serve_expired, soft_timeout, hard_timeout, jitter, .. } = cache.loading;
    let max_age = cache.max_age;
    // Reported where one of the two was given; what holds by default is reported where it stands.
    let mut report = |first: &'static str, second: &'static str, what: String| {
        let place = |name: &str| given.origin(name).cloned();
        if let Some(origin) = place(first).or_else(|| place(second)) {
            let other = if place(first).is_some() { second } else { first };
            let other =
                place(other).map_or_else(|| shown_path(&defaults.child(other).path), |other| shown_path(&other.path));
            problems.add(&origin, format!("contradicts `{other}`: {what}"));
        }
    };
    for (name, value) in [("refresh_ahead", refresh_ahead), ("serve_expired", serve_expired)] {
        if !value.is_zero() && max_age.is_zero() {
            report(
                name,
                "max_age",
                format!(
                    "`{name}` is {}, but without a `max_age` nothing expires: give both, or `{name}: 0`",
                    show(value)
                ),
            );
        }
    }
    if jitter > 0.0 && max_age.is_zero() {
        report(
            "jitter",
            "max_age",
            "`jitter` is a part of `max_age`, which has no limit: give both, or `jitter: 0`".to_owned(),
        );
    }
    let shortest = max_age.mul_f64(1.0 - jitter);
    if !refresh_ahead.is_zero() && !max_age.is_zero() && refresh_ahead >= shortest {
        let what = format!(
            "`refresh_ahead` is {}, and an object may live for no longer than {}, so that every get would load it anew: give less",
            show(refresh_ahead),
            show(shortest)
        );
        report("refresh_ahead", "max_age", what);
    }
    if !soft_timeout.is_zero() && serve_expired.is_zero() {
        let what = "after `soft_timeout` an expired object is served, and `serve_expired` keeps none: give both, or `soft_timeout: 0`";
        report("soft_timeout", "serve_expired", what.to_owned());
    }
    if !hard_timeout.is_zero() && soft_timeout >= hard_timeout {
        let what = format!(
            "`soft_timeout` is {}, and whoever waits gives up after `hard_timeout`, {}: give a shorter soft one",
            show(soft_timeout),
            show(hard_timeout)
        );
        report("soft_timeout", "hard_timeout", what);
    }
}
