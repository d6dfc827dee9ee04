//! The section `feed`: which database each feed polls, and which tables the objects of each cache are built from.

use super::error::Problems;
use super::note::Note;
use super::setting::{
    Place, Refused, Setting, Written, boolean, duration, put, read, text, text_or_texts, texts, time, written_text,
};
use super::tree::{Node, Value};
use crate::caches::plan::Plan;
use crate::caches::{ConnectorKind, ConnectorName, DatabaseFeed};
use crate::feed::declaration::{COLUMNS, KEY, Source, Sources, TABLE};
use crate::feed::options::{FeedOptions, POLL, Wake};
use crate::nearest::fold;
use crate::option_error::{NAME, is_name};

/// The settings of a feed, while they are read or written.
#[derive(Debug, Default)]
pub(super) struct Draft {
    connector: Option<ConnectorName>,
    options: FeedOptions,
}

impl Draft {
    /// The settings, as the effective configuration writes them.
    pub(super) fn of(feed: &DatabaseFeed) -> Self {
        Self { connector: Some(feed.connector.clone()), options: feed.options.clone() }
    }
}

/// The section of a feed that has the sources of each cache.
pub(super) const SOURCES: &str = "sources";

const CONNECTOR: &str = "the name of a connector of the kind postgres";

pub(super) const SETTINGS: &[Setting<Draft>] = &[
    Setting {
        name: "connector",
        give: CONNECTOR,
        read: |feed, node| put(&mut feed.connector, text(node).map(|name| Some(name.into()))),
        write: |feed| feed.connector.as_ref().and_then(written_text),
    },
    Setting {
        name: "poll",
        give: POLL,
        read: |feed, node| put(&mut feed.options.poll, duration(node)),
        write: |feed| time(feed.options.poll),
    },
    Setting {
        name: "wake",
        give: "poll, or listen in a small fleet",
        read: |feed, node| {
            feed.options.wake = match fold(text(node)?).as_str() {
                "poll" => Wake::Poll,
                "listen" => Wake::Listen,
                _ => return Err(Refused::Shown("")),
            };
            Ok(())
        },
        write: |feed| match feed.options.wake {
            Wake::Poll => written_text("poll"),
            Wake::Listen => written_text("listen"),
        },
    },
];

/// The settings of one source.
pub(super) const SOURCE: &[Setting<Source>] = &[
    Setting {
        name: "table",
        give: TABLE,
        read: |source, node| put(&mut source.table, text(node).map(str::to_owned)),
        write: |source| written_text(&source.table),
    },
    Setting {
        name: "key",
        give: KEY,
        read: |source, node| put(&mut source.key, text_or_texts(node)),
        write: |source| match source.key.as_slice() {
            [only] => written_text(only),
            parts => Some(Written::Texts(parts.to_vec())),
        },
    },
    Setting {
        name: "index",
        give: "the index of the cache's entry type that the key is of",
        read: |source, node| put(&mut source.index, text(node).map(str::to_owned)),
        write: |source| written_text(&source.index),
    },
    Setting {
        name: "columns",
        give: COLUMNS,
        read: |source, node| put(&mut source.columns, texts(node)),
        write: |source| Some(Written::Texts(source.columns.clone())).filter(|_| !source.columns.is_empty()),
    },
    Setting {
        name: "always",
        give: "true, for a subscriber of logical replication, or false",
        read: |source, node| put(&mut source.always, boolean(node)),
        write: |source| source.always.then(|| Written::Plain("true".to_owned())),
    },
];

/// Reads all feeds into the plan, which has the connectors already.
pub(super) fn read_feeds(section: &Node, plan: &mut Plan, problems: &mut Problems) {
    if !matches!(section.value, Value::Nothing | Value::Map(_)) {
        problems.add(&section.origin, format!("is {}: give a mapping of feeds by name", section.kind()));
    }
    for (name, node) in section.children() {
        if let Err(problem) = plan.expect_free_feed(name) {
            problems.add(&node.origin, problem);
            continue;
        }
        let Some(feed) = read_feed(name, node, plan, problems) else { continue };
        if let Err(problem) = plan.add_feed(name, feed) {
            problems.add(&node.origin, problem);
        }
    }
}

/// `None`: it has no connector that a feed can be on.
fn read_feed(name: &str, section: &Node, plan: &Plan, problems: &mut Problems) -> Option<DatabaseFeed> {
    let mut draft = Draft::default();
    let given = read(section, SETTINGS, &[SOURCES], &mut draft, problems);
    let place = Place { section, given: &given, inherited: None };
    draft.options.examine(&mut |error| place.report(&error, problems));
    let sources = section.child(SOURCES).map(|sources| read_sources(sources, problems)).unwrap_or_default();
    let Some(connector) = draft.connector else {
        let readable = matches!(section.value, Value::Nothing | Value::Map(_)) && section.child("connector").is_none();
        if readable {
            problems.add(&section.origin, format!("has no connector: give `connector`, {CONNECTOR}"));
        }
        return None;
    };
    if let (Err(problem), Some(at)) = (plan.expect_database(name, &connector), section.child("connector")) {
        let problem = match ConnectorKind::of_name(&connector) {
            // Named after its kind, it is there, and nothing says where its database is.
            Some(ConnectorKind::Postgres) if plan.connector(&connector).is_none() => {
                format!("but `connectors.postgres` {} there", super::postgres::NO_URL)
            }
            _ => problem,
        };
        problems.add(&at.origin, format!("is {}, {problem}", at.shown()));
    }
    Some(draft.options.on(connector).sources(sources))
}

fn read_sources(section: &Node, problems: &mut Problems) -> Sources {
    let mut sources = Sources::new();
    if !matches!(section.value, Value::Map(_)) {
        problems.add(
            &section.origin,
            format!("is {}: give a mapping of caches by name, and a list of sources for each", section.kind()),
        );
    }
    for (cache, list) in section.children() {
        if !is_name(cache) {
            problems.add(&list.origin, format!("is no name for a cache: give {NAME}"));
            continue;
        }
        if let Some(other) = sources.caches().find(|other| fold(other) == fold(cache)) {
            problems.add(
                &list.origin,
                format!("names the same cache as `{other}`: give the name that its entry type has, once"),
            );
            continue;
        }
        if !matches!(list.value, Value::List(_) | Value::Nothing) {
            problems.add(
                &list.origin,
                format!("is {}: give a list of sources, each with table, key and index", list.kind()),
            );
        }
        for node in list.elements() {
            let Some(source) = read_source(node, problems) else { continue };
            let same = |other: &Source| {
                (&other.table, &other.key, &other.index) == (&source.table, &source.key, &source.index)
            };
            if sources.all().any(|(of, other)| of == cache && same(other)) {
                problems.add(&node.origin, "is there twice, with the same table, key and index: give it once");
                continue;
            }
            sources = sources.of(cache.as_str(), source);
        }
    }
    sources
}

/// `None`: a setting that has to be there is missing, or cannot be read.
fn read_source(section: &Node, problems: &mut Problems) -> Option<Source> {
    let mut source = Source::new("", Vec::<String>::new(), "");
    let given = read(section, SOURCE, &[], &mut source, problems);
    if section.is_nothing() {
        problems.add(&section.origin, "is empty: give a source, with table, key and index");
        return None;
    }
    if !matches!(section.value, Value::Map(_)) {
        return None;
    }
    let needed: Vec<_> = SOURCE.iter().filter(|setting| ["table", "key", "index"].contains(&setting.name)).collect();
    for setting in &needed {
        if section.child(setting.name).is_none() {
            problems
                .add(&section.origin, format!("has no {}: give `{}`, {}", setting.name, setting.name, setting.give));
        }
    }
    if needed.iter().any(|setting| given.origin(setting.name).is_none()) {
        return None;
    }
    let place = Place { section, given: &given, inherited: None };
    source.examine(&mut |error| place.report(&error, problems));
    Some(source)
}

/// Adds a note for each cache that the triggers of a feed tell, and that does not listen.
pub(super) fn note_unheard(section: &Node, plan: &Plan, notes: &mut Vec<Note>) {
    for (name, feed) in plan.feeds() {
        for cache in feed.sources.caches() {
            let Some((listed, options)) = plan.caches().find(|(listed, _)| fold(listed) == fold(cache)) else {
                continue;
            };
            let follows = plan.followed(options).ok().flatten().is_some_and(|(followed, _)| followed == name);
            if !follows && options.connector != feed.connector && !options.connector.is_none() {
                let at = section.origin.child(name).child(SOURCES).child(cache);
                notes.push(Note::new(
                    &at,
                    format!(
                        "the cache `{listed}` does not follow this feed, and hears of no change: give it `feed: {name}`"
                    ),
                ));
            }
        }
    }
}
