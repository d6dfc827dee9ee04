//! The settings of a connector's circuit breaker.

use super::error::Problems;
use super::setting::{Place, Setting, duration, number, plain, put, ratio, read, time};
use super::tree::{Node, Value};
use crate::breaker::{BreakerOptions, HalfOpen};
use crate::duration::show;

pub(super) const SETTINGS: &[Setting<BreakerOptions>] = &[
    Setting {
        name: "window",
        give: "a duration such as 10s, or 0 to count until the state changes",
        read: |breaker, node| put(&mut breaker.window, duration(node)),
        write: |breaker| time(breaker.window),
    },
    Setting {
        name: "min_calls",
        give: "a number, 1 or more",
        read: |breaker, node| put(&mut breaker.min_calls, number(node)),
        write: |breaker| plain(breaker.min_calls),
    },
    Setting {
        name: "consecutive_failures",
        give: "a number, 0 for never",
        read: |breaker, node| put(&mut breaker.consecutive_failures, number(node)),
        write: |breaker| plain(breaker.consecutive_failures),
    },
    Setting {
        name: "failure_ratio",
        give: "0 (never) to 1",
        read: |breaker, node| put(&mut breaker.failure_ratio, ratio(node)),
        write: |breaker| plain(breaker.failure_ratio),
    },
    Setting {
        name: "slow_call",
        give: "a duration such as 50ms, or 0: no call is slow",
        read: |breaker, node| put(&mut breaker.slow_call, duration(node)),
        write: |breaker| time(breaker.slow_call),
    },
    Setting {
        name: "slow_ratio",
        give: "0 (never) to 1",
        read: |breaker, node| put(&mut breaker.slow_ratio, ratio(node)),
        write: |breaker| plain(breaker.slow_ratio),
    },
    Setting {
        name: "open",
        give: "a duration above 0, such as 1s",
        read: |breaker, node| put(&mut breaker.open, duration(node)),
        write: |breaker| time(breaker.open),
    },
    Setting {
        name: "open_max",
        give: "a duration of `open` or more, such as 1s",
        read: |breaker, node| put(&mut breaker.open_max, duration(node)),
        write: |breaker| time(breaker.open_max),
    },
    Setting {
        name: "open_refused",
        give: "a duration above 0, such as 30s",
        read: |breaker, node| put(&mut breaker.open_refused, duration(node)),
        write: |breaker| time(breaker.open_refused),
    },
    Setting {
        name: "healthy_after",
        give: "a duration such as 1m",
        read: |breaker, node| put(&mut breaker.healthy_after, duration(node)),
        write: |breaker| time(breaker.healthy_after),
    },
    Setting {
        name: "half_open",
        give: "probes, or a number of requests, 1 to 16777215",
        read: |breaker, node| {
            breaker.half_open = match &node.value {
                Value::Text(text) if text == "probes" => HalfOpen::Probes,
                _ => HalfOpen::Requests(number(node)?),
            };
            Ok(())
        },
        write: |breaker| match breaker.half_open {
            HalfOpen::Probes => plain("probes"),
            HalfOpen::Requests(most) => plain(most),
        },
    },
    Setting {
        name: "half_open_successes",
        give: "a number, 1 or more",
        read: |breaker, node| put(&mut breaker.half_open_successes, number(node)),
        write: |breaker| plain(breaker.half_open_successes),
    },
    Setting {
        name: "trial_timeout",
        give: "a duration such as 1m, or 0 for never",
        read: |breaker, node| put(&mut breaker.trial_timeout, duration(node)),
        write: |breaker| time(breaker.trial_timeout),
    },
    Setting {
        name: "ramp",
        give: "a duration such as 5s, or 0 for all at once",
        read: |breaker, node| put(&mut breaker.ramp, duration(node)),
        write: |breaker| time(breaker.ramp),
    },
];

pub(super) fn read_options(section: &Node, problems: &mut Problems) -> BreakerOptions {
    let mut breaker = BreakerOptions::for_server();
    let before = problems.0.len();
    let given = read(section, SETTINGS, &[], &mut breaker, problems);
    match given.origin("open_max") {
        Some(origin) if breaker.open_max < breaker.open && problems.0.len() == before => {
            problems.add(origin, format!("is `{}`: give `open` or more", show(breaker.open_max)));
        }
        Some(_) => {}
        // If only `open` is given, and is longer than the default of `open_max`, it is the limit as well.
        None => breaker.open_max = breaker.open_max.max(breaker.open),
    }
    // A setting that could not be read has its default now, which the other settings may contradict.
    if problems.0.len() == before {
        let place = Place { section, given: &given, inherited: None };
        breaker.examine(&mut |error| place.report(&error, problems));
    }
    breaker
}
