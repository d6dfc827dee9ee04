//! The settings of a cache that say how its objects are loaded ([`LoadOptions`](crate::LoadOptions)).

use super::cache::Draft;
use super::setting::{Setting, duration, plain, put, ratio, time};
use crate::contract;

macro_rules! durations {
    ($($row:ident $setting:ident $give:literal;)*) => {$(
        pub(super) const $row: Setting<Draft> = Setting {
            name: stringify!($setting),
            give: $give,
            read: |cache, node| put(&mut cache.options.loading.$setting, duration(node)),
            write: |cache| {
                let (own, below) = (cache.options.loading.$setting, cache.below.$setting);
                if own.is_zero() && below.is_zero() { None } else { time(own) }
            },
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

pub(super) const JITTER: Setting<Draft> = Setting {
    name: "jitter",
    give: contract::JITTER,
    read: |cache, node| put(&mut cache.options.loading.jitter, ratio(node)),
    write: |cache| {
        let (own, below) = (cache.options.loading.jitter, cache.below.jitter);
        if own == 0.0 && below == 0.0 { None } else { plain(own) }
    },
};
