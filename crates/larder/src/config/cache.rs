//! The sections `caches.<name>` and `defaults`: where a cache keeps its objects, for how long, and how they are loaded.

use super::connectors;
use super::error::Problems;
use super::loading;
use super::setting::{
    Place, Refused, Setting, bytes, duration, number, plain, put, ratio, read, text, time, written_bytes, written_text,
};
use super::tree::{Node, Origin, Value, shown_path};
use crate::cache::audit;
use crate::caches::plan::Plan;
use crate::caches::{CacheOptions, ConnectorName, feeds};
use crate::contract::{LoadOptions, MAX_OBJECT_SIZE};
use crate::feed::options::{DEADLINE, FollowOptions};
use crate::nearest::fold;
use std::time::Duration;

/// The settings of one cache, or of `defaults`, while they are read or written.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) connector: Option<ConnectorName>,
    /// All settings but the connector.
    pub(super) options: CacheOptions,
    /// The load options that apply where nothing is given. A setting that is off in both is not written.
    pub(super) below: LoadOptions,
    /// The feed, and the deadline, that apply where nothing is given.
    follow_below: (Option<String>, Duration),
}

impl Draft {
    /// The settings of caches that give none of their own.
    pub(super) fn of_defaults(plan: &Plan) -> Self {
        let options = plan.defaults.clone();
        let follow_below = (None, FollowOptions::default().deadline);
        Self { connector: plan.default_connector.clone(), options, below: LoadOptions::default(), follow_below }
    }

    /// The settings of one cache.
    pub(super) fn of_cache(plan: &Plan, cache: &CacheOptions) -> Self {
        let connector = Some(cache.connector.clone());
        let follow_below = (plan.defaults.feed.clone(), plan.defaults.feed_deadline);
        Self { connector, options: cache.clone(), below: plan.defaults.loading, follow_below }
    }
}

pub(super) const SETTINGS: &[Setting<Draft>] = &[
    Setting {
        name: "connector",
        give: "none, memory, redis, tiered or postgres",
        read: |cache, node| {
            let name = ConnectorName::from(text(node).map_err(|_| Refused::Shown(""))?);
            cache.connector = Some(if name.is_none() { ConnectorName::none() } else { name });
            Ok(())
        },
        write: |cache| cache.connector.as_ref().and_then(written_text),
    },
    Setting {
        name: "max_age",
        give: "a duration such as 1h30m, or 0 for no limit",
        read: |cache, node| put(&mut cache.options.max_age, duration(node)),
        write: |cache| time(cache.options.max_age),
    },
    Setting {
        name: "last_use_age",
        give: "a duration such as 10m, or 0 for no limit",
        read: |cache, node| put(&mut cache.options.last_use_age, duration(node)),
        write: |cache| time(cache.options.last_use_age),
    },
    Setting {
        name: "max_object_size",
        give: MAX_OBJECT_SIZE,
        read: |cache, node| put(&mut cache.options.max_object_size, bytes(node)),
        write: |cache| written_bytes(cache.options.max_object_size),
    },
    Setting {
        name: "comeback_loads",
        give: "a number of loads at once, 0 for no limit",
        read: |cache, node| put(&mut cache.options.comeback_loads, number(node)),
        write: |cache| plain(cache.options.comeback_loads),
    },
    Setting {
        name: "audit_share",
        give: audit::SHARE,
        read: |cache, node| put(&mut cache.options.audit_share, ratio(node)),
        write: |cache| plain(cache.options.audit_share),
    },
    Setting {
        name: "audit_grace",
        give: audit::GRACE,
        read: |cache, node| put(&mut cache.options.audit_grace, duration(node)),
        write: |cache| time(cache.options.audit_grace),
    },
    Setting {
        name: "audit_bypass",
        give: "a duration such as 1m, or 0 for none",
        read: |cache, node| put(&mut cache.options.audit_bypass, duration(node)),
        write: |cache| time(cache.options.audit_bypass),
    },
    Setting {
        name: "feed",
        give: "none, or the name of a feed",
        read: |cache, node| {
            let name = text(node).map_err(|_| Refused::Shown(""))?;
            cache.options.feed = (fold(name) != feeds::NONE).then(|| name.to_owned());
            Ok(())
        },
        write: |cache| match (&cache.options.feed, &cache.follow_below.0) {
            (None, None) => None,
            (feed, _) => written_text(feed.as_deref().unwrap_or(feeds::NONE)),
        },
    },
    Setting {
        name: "feed_deadline",
        give: DEADLINE,
        read: |cache, node| put(&mut cache.options.feed_deadline, duration(node)),
        write: |cache| {
            let (own, below) = (cache.options.feed_deadline, cache.follow_below.1);
            if cache.options.feed.is_none() && own == below { None } else { time(own) }
        },
    },
    loading::LEASE,
    loading::REFRESH_AHEAD,
    loading::SERVE_EXPIRED,
    loading::SOFT_TIMEOUT,
    loading::HARD_TIMEOUT,
    loading::NEGATIVE_AGE,
    loading::JITTER,
];

/// Reads the settings of caches that give none of their own.
pub(super) fn read_defaults(section: &Node, plan: &mut Plan, problems: &mut Problems) {
    let mut draft = Draft::of_defaults(plan);
    read_draft(section, &section.origin, &mut draft, plan, problems);
    plan.default_connector = draft.connector;
    plan.defaults = draft.options;
}

/// Reads one cache. What it does not give comes from the plan's defaults, whose section is `inherited`. `None`: it has no connector.
pub(super) fn read_cache(
    section: &Node,
    plan: &Plan,
    inherited: &Origin,
    problems: &mut Problems,
) -> Option<CacheOptions> {
    let mut draft = Draft::of_defaults(plan);
    read_draft(section, inherited, &mut draft, plan, problems);
    let readable = matches!(section.value, Value::Nothing | Value::Map(_)) && section.child("connector").is_none();
    if draft.connector.is_none() && readable {
        problems.add(
            &section.origin,
            format!(
                "has no connector: give `connector` here or in `{}` ({})",
                shown_path(&inherited.path),
                connectors::alternatives(plan)
            ),
        );
    }
    let cache = CacheOptions { connector: draft.connector?, ..draft.options };
    if let Err(problem) = plan.expect_fed(&cache) {
        let at = section.child("connector").map_or(&section.origin, |at| &at.origin);
        problems.add(at, format!("is `{}`, {problem}", cache.connector));
    }
    Some(cache)
}

/// Reads the settings that are given, and reports those that cannot be used. What is wrong with `inherited` is reported there.
fn read_draft(section: &Node, inherited: &Origin, draft: &mut Draft, plan: &Plan, problems: &mut Problems) {
    let given = read(section, SETTINGS, &[], draft, problems);
    let place = Place { section, given: &given, inherited: Some(inherited) };
    draft.options.examine(&mut |error| place.report(&error, problems));
    plan.examine_deadline(&draft.options, &mut |error| place.report(&error, problems));
    if let (Err(problem), Some(at), Some(origin)) =
        (plan.followed(&draft.options), section.child("feed"), given.origin("feed"))
    {
        problems.add(origin, format!("is {}, {problem}", at.shown()));
    }
}
