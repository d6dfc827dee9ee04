//! Puts the settings of Zitadel's block where larder's own file would have them.

use super::settings::{BREAKER, CACHES, CONNECTORS, REDIS, Taken, Word};
use super::values::{Time, empty, integer, time, truth};
use crate::caches::ConnectorName;
use crate::config::connectors::Disabled;
use crate::config::error::Problems;
use crate::config::note::Note;
use crate::config::tree::{Node, Origin, Value, shown_path};
use crate::connector::redis::options::Url;
use crate::duration;
use std::time::Duration;

/// The caches that Zitadel knows, and the default connector of each.
pub(super) const KNOWN: [(&str, &str); 5] = [
    ("Instance", "none"),
    ("Milestones", "none"),
    ("Organization", "none"),
    ("IdPFormCallbacks", "postgres"),
    ("FederatedLogouts", "postgres"),
];

/// The default ages of these caches.
pub(super) const MAX_AGE: Duration = Duration::from_secs(3600);
pub(super) const LAST_USE_AGE: Duration = Duration::from_secs(600);

pub(super) struct Translation<'a> {
    /// The tree that larder's own file would give.
    pub(super) ours: Node,
    pub(super) problems: &'a mut Problems,
    pub(super) notes: &'a mut Vec<Note>,
}

impl Translation<'_> {
    fn note(&mut self, origin: &Origin, text: impl Into<String>) {
        self.notes.push(Note::new(origin, text));
    }

    /// Takes the settings of `words` out of `from`, and puts them below `to`.
    fn take(&mut self, from: &Node, words: &'static [Word], to: &[&str]) {
        for word in words {
            let Some(node) = at(from, word.path) else { continue };
            let value = match (word.take)(node) {
                Taken::Keep => node.value.clone(),
                Taken::As(value) => value,
                Taken::Drop => continue,
                Taken::Note(text) => {
                    self.note(&node.origin, text);
                    continue;
                }
                Taken::AsNote(value, text) => {
                    self.note(&node.origin, text);
                    value
                }
                Taken::Refuse(text) => {
                    self.problems.add(&node.origin, text);
                    continue;
                }
            };
            for becomes in word.becomes {
                self.put(&[to, becomes].concat(), &node.origin, value.clone());
            }
        }
    }

    fn put(&mut self, path: &[&str], origin: &Origin, value: Value) {
        self.ours.insert(path, Node { origin: origin.clone(), value });
    }

    /// Begins a section with the origin of Zitadel's section, so that errors about it name a place that exists.
    fn open(&mut self, path: &[&str], from: &Node) {
        self.put(path, &from.origin, Value::Map(Vec::new()));
    }

    /// Translates the connectors. Returns those that are switched off.
    pub(super) fn connectors(&mut self, block: &Node) -> Vec<Disabled> {
        let nothing = Node { origin: block.origin.child("Connectors"), value: Value::Nothing };
        self.open(&["connectors"], block.child("Connectors").unwrap_or(&nothing));
        for (theirs, ours) in [("Memory", "memory"), ("Postgres", "postgres"), ("Redis", "redis")] {
            if let Some(section) = at(block, &["Connectors", theirs]) {
                self.open(&["connectors", ours], section);
            }
        }
        if let Some(breaker) = at(block, BREAKER) {
            self.open(&["connectors", "redis", "breaker"], breaker);
            self.breaker(breaker);
        }
        self.take(block, CONNECTORS, &["connectors"]);
        let mut disabled = Vec::new();
        for (name, by_default) in [("Memory", false), ("Postgres", true), ("Redis", false)] {
            let path = ["Connectors", name, "Enabled"];
            let given = at(block, &path);
            if !given.and_then(truth).unwrap_or(by_default) {
                let origin = given.map_or_else(
                    || path.iter().fold(block.origin.clone(), |at, name| at.child(name)),
                    |node| node.origin.clone(),
                );
                let is = if given.is_some() { "is false" } else { "is not given, which means false" };
                disabled.push(Disabled(ConnectorName::from(name), format!("`{}` {is}", shown_path(&origin.path))));
            }
        }
        let enabled = !disabled.iter().any(|Disabled(name, _)| *name == ConnectorName::from("redis"));
        self.server(block, enabled);
        disabled
    }

    /// Translates the address of the server, the credentials and the database.
    fn server(&mut self, block: &Node, enabled: bool) {
        let ours = |name| ["connectors", "redis", name];
        let given = |name: &str| at(block, &[REDIS, &[name]].concat()).filter(|node| !empty(node));
        let url = given("URL");
        let mut database_in_url = false;
        if let Some(node) = url {
            if let Value::Text(text) = &node.value {
                database_in_url = Url::parse(text).is_ok_and(|url| url.database.is_some());
            }
            for name in ["Network", "Addr", "Username", "Password"] {
                if let Some(other) = given(name) {
                    self.note(&other.origin, "not used: URL takes its place");
                }
            }
            if enabled {
                self.put(&ours("url"), &node.origin, node.value.clone());
            }
        } else {
            if enabled {
                self.address(given("Network"), given("Addr"), block);
            }
            match (given("Username"), given("Password")) {
                (Some(username), None) => self.note(&username.origin, "not used: without a Password there is no login"),
                (username, password) => {
                    for (name, node) in [("username", username), ("password", password)] {
                        if let Some(node) = node {
                            self.put(&ours(name), &node.origin, node.value.clone());
                        }
                    }
                }
            }
        }
        let offset = at(block, &[REDIS, &["DBOffset"]].concat());
        match offset {
            Some(offset) if database_in_url => self.note(&offset.origin, "not used: URL names the database"),
            Some(offset) => {
                let number = integer(offset).map_or_else(|| "it".to_owned(), |number| number.to_string());
                self.note(
                    &offset.origin,
                    format!(
                        "Zitadel adds a number of its own for each cache; larder keeps all caches in database {number}, \
                         apart by name, and never flushes it"
                    ),
                );
                self.put(&ours("database"), &offset.origin, offset.value.clone());
            }
            None if enabled && !database_in_url => {
                let origin = REDIS.iter().fold(block.origin.clone(), |at, name| at.child(name)).child("DBOffset");
                self.put(&ours("database"), &origin, Value::Integer(10));
            }
            None => {}
        }
    }

    fn address(&mut self, network: Option<&Node>, addr: Option<&Node>, block: &Node) {
        let ours = |name| ["connectors", "redis", name];
        let text = |node: Option<&Node>| match node.map(|node| &node.value) {
            Some(Value::Text(text)) => Some(text.trim().to_owned()),
            _ => None,
        };
        let origin = addr.map_or_else(
            || REDIS.iter().fold(block.origin.clone(), |at, name| at.child(name)).child("Addr"),
            |addr| addr.origin.clone(),
        );
        let setting = match (network, text(network).map(|network| network.to_ascii_lowercase()).as_deref()) {
            (None, _) | (_, Some("tcp" | "tcp4" | "tcp6")) => "address",
            (_, Some("unix")) => "socket",
            (Some(network), _) => {
                self.problems.add(&network.origin, format!("is {}: give tcp or unix", network.shown()));
                return;
            }
        };
        let value = match (addr.map(|addr| &addr.value), text(addr)) {
            (None, _) => Value::Text("localhost:6379".to_owned()),
            // Go takes an address without a host for the local host.
            (_, Some(port)) if setting == "address" && port.starts_with(':') => Value::Text(format!("localhost{port}")),
            (Some(value), _) => value.clone(),
        };
        self.put(&ours(setting), &origin, value);
    }

    fn breaker(&mut self, breaker: &Node) {
        let failures =
            at(breaker, &["MaxConsecutiveFailures"]).map_or(Some(5), integer).filter(|failures| *failures > 0);
        let run = failures.map(|failures| format!("at {failures} failures in a row (Zitadel permits that many), and "));
        self.note(
            &breaker.origin,
            format!(
                "opens {}at MaxFailureRatio once there were 20 calls (`min_calls`), because one failure of one call is \
                 a ratio of 1; after closing, gets come back over 5s (`ramp`)",
                run.unwrap_or_default()
            ),
        );
        // Zitadel's defaults. The settings that are given overwrite them.
        let defaults: [(&[&str], Value); 8] = [
            (&["window"], Value::Integer(0)),
            (&["slow_call"], Value::Integer(0)),
            (&["consecutive_failures"], Value::Integer(5)),
            (&["failure_ratio"], Value::Float(0.1)),
            (&["open"], Value::Text("60s".to_owned())),
            (&["open_max"], Value::Text("60s".to_owned())),
            (&["half_open"], Value::Integer(1)),
            (&["half_open_successes"], Value::Integer(1)),
        ];
        for (name, value) in defaults {
            self.put(&[&["connectors", "redis", "breaker"], name].concat(), &breaker.origin, value);
        }
    }

    /// Translates one cache.
    pub(super) fn cache(&mut self, name: &str, cache: &Node) {
        let ours = ["caches", name];
        self.open(&ours, cache);
        let known = KNOWN.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let connector = known.map_or("none", |(_, connector)| connector);
        self.put(&["caches", name, "connector"], &cache.origin.child("Connector"), Value::Text(connector.to_owned()));
        self.take(cache, CACHES, &ours);
        if let Some(log) = cache.child("Log") {
            self.note(&log.origin, "larder logs through `tracing`, whose subscriber decides level and format");
        }
        if known.is_some() {
            self.default_ages(name, cache);
        }
    }

    /// Adds the ages that Zitadel merges into the file. An age that was given limits the default of the other one.
    fn default_ages(&mut self, name: &str, cache: &Node) {
        let age = |name| {
            cache.child(name).map(|node| match time(node) {
                Ok(Time::Some(age)) => age,
                _ => Duration::ZERO,
            })
        };
        let text = |age: Duration| Value::Text(duration::show(age));
        let (max, last_use) = (age("MaxAge"), age("LastUseAge"));
        if max.is_none() {
            self.put(&["caches", name, "max_age"], &cache.origin.child("MaxAge"), text(MAX_AGE));
        }
        match (max, last_use, cache.child("LastUseAge")) {
            (None, Some(last_use), Some(node)) if last_use > MAX_AGE => {
                self.note(&node.origin, "longer than MaxAge, which is 1h where it is not given, so it has no effect");
                self.put(&["caches", name, "last_use_age"], &node.origin, text(MAX_AGE));
            }
            (_, None, _) => {
                let max = max.filter(|max| !max.is_zero()).unwrap_or(LAST_USE_AGE);
                self.put(
                    &["caches", name, "last_use_age"],
                    &cache.origin.child("LastUseAge"),
                    text(LAST_USE_AGE.min(max)),
                );
            }
            _ => {}
        }
    }
}

fn at<'a>(node: &'a Node, path: &[&str]) -> Option<&'a Node> {
    path.iter().try_fold(node, |node, name| node.child(name))
}
