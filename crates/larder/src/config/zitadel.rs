//! Zitadel's `Caches:` block, put in larder's words: every setting means what it means there, or a note says what larder does
//! instead.
//!
//! The block becomes the tree that a file of ours would have been, each value with the place it has in Zitadel's file, and is
//! read like any other. Names are matched without regard to case, as Zitadel does. Settings that are not given have the
//! defaults of Zitadel, which merges them into every file; the circuit breaker has them only where its block is given.
//!
//! # Durations
//!
//! Zitadel counts a number without a unit in nanoseconds, which nobody means: it is refused, but for 0 and what is negative. What
//! those say depends on the setting: a negative time-out or age is none, a negative back-off is no retry.

use super::connectors::Disabled;
use super::environment::{self, Environment};
use super::error::Problems;
use super::note::Note;
use super::setting::unknown;
use super::tree::{Node, Origin, Value, shown_name, shown_path};
use crate::caches::ConnectorName;
use crate::connector::redis::options::Url;
use crate::duration;
use crate::nearest::nearest;
use std::time::Duration;

/// A setting of Zitadel's.
struct Word {
    /// Below `Caches`, or below a cache.
    path: &'static [&'static str],
    /// The settings of ours that get its value, below `connectors` or below the cache.
    becomes: &'static [&'static [&'static str]],
    take: fn(&Node) -> Taken,
}

/// What becomes of a value.
enum Taken {
    /// It is taken as it is.
    Keep,
    /// It is taken as this.
    As(Value),
    /// It says what larder does anyway.
    Drop,
    /// It has no use here; the text says what larder does instead.
    Note(String),
    /// It is taken as this, which differs in the way the text says.
    AsNote(Value, String),
    /// It cannot be; the text goes on after the path.
    Refuse(String),
}

const REDIS: &[&str] = &["Connectors", "Redis"];
const BREAKER: &[&str] = &["Connectors", "Redis", "CircuitBreaker"];

const POOL: &str = "larder has no pool: all operations share one multiplexed connection, and `max_in_flight` caps them";
const RETRIES: &str =
    "larder does not repeat an operation: a get that fails is a miss, an invalidation that fails waits in the journal";

const CONNECTORS: &[Word] = &[
    Word { path: &["Connectors", "Memory", "Enabled"], becomes: &[], take: boolean },
    Word {
        path: &["Connectors", "Memory", "AutoPrune", "Interval"],
        becomes: &[&["memory", "prune_interval"]],
        take: zero_is_never,
    },
    Word {
        path: &["Connectors", "Memory", "AutoPrune", "TimeOut"],
        becomes: &[],
        take: |node| pointless_time(node, "pruning memory waits for nothing, so it has no time-out"),
    },
    Word { path: &["Connectors", "Postgres", "Enabled"], becomes: &[], take: boolean },
    Word {
        path: &["Connectors", "Postgres", "AutoPrune", "Interval"],
        becomes: &[],
        take: |node| time_or(node, |_| Taken::Drop),
    },
    Word {
        path: &["Connectors", "Postgres", "AutoPrune", "TimeOut"],
        becomes: &[],
        take: |node| time_or(node, |_| Taken::Drop),
    },
    Word { path: &["Connectors", "Redis", "Enabled"], becomes: &[], take: boolean },
    // Which of these say where the server is, and who we are, depends on the others: see `server`.
    Word { path: &["Connectors", "Redis", "URL"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Connectors", "Redis", "Network"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Connectors", "Redis", "Addr"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Connectors", "Redis", "ClientName"], becomes: &[&["redis", "client_name"]], take: unless_empty },
    Word { path: &["Connectors", "Redis", "Username"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Connectors", "Redis", "Password"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Connectors", "Redis", "DBOffset"], becomes: &[], take: |_| Taken::Drop },
    Word {
        path: &["Connectors", "Redis", "MaxRetries"],
        becomes: &[],
        take: |node| match integer(node) {
            None => Taken::Refuse(format!("is {}: give a number, -1 for no retries", node.shown())),
            Some(retries) if retries < 0 => Taken::Drop,
            Some(_) => Taken::Note(RETRIES.to_owned()),
        },
    },
    Word {
        path: &["Connectors", "Redis", "MinRetryBackoff"],
        becomes: &[],
        take: |node| pointless_time(node, RETRIES),
    },
    Word {
        path: &["Connectors", "Redis", "MaxRetryBackoff"],
        becomes: &[],
        take: |node| pointless_time(node, RETRIES),
    },
    Word {
        path: &["Connectors", "Redis", "DialTimeout"],
        becomes: &[&["redis", "connect_timeout"]],
        take: |node| timeout(node, "1s"),
    },
    Word {
        path: &["Connectors", "Redis", "ReadTimeout"],
        becomes: &[&["redis", "operation_timeout"]],
        take: |node| timeout(node, "100ms"),
    },
    Word {
        path: &["Connectors", "Redis", "WriteTimeout"],
        becomes: &[],
        take: |node| {
            let text = "one time-out holds for a whole operation, writing and reading: that of ReadTimeout";
            time_or(node, |_| Taken::Note(text.to_owned()))
        },
    },
    Word {
        path: &["Connectors", "Redis", "PoolFIFO"],
        becomes: &[],
        take: |node| match truth(node) {
            Some(_) => Taken::Note(POOL.to_owned()),
            None => boolean(node),
        },
    },
    Word { path: &["Connectors", "Redis", "PoolSize"], becomes: &[], take: pool_number },
    Word { path: &["Connectors", "Redis", "PoolTimeout"], becomes: &[], take: pool_time },
    Word { path: &["Connectors", "Redis", "MinIdleConns"], becomes: &[], take: pool_number },
    Word { path: &["Connectors", "Redis", "MaxIdleConns"], becomes: &[], take: pool_number },
    Word { path: &["Connectors", "Redis", "MaxActiveConns"], becomes: &[], take: pool_number },
    Word { path: &["Connectors", "Redis", "ConnMaxIdleTime"], becomes: &[], take: pool_time },
    Word { path: &["Connectors", "Redis", "ConnMaxLifetime"], becomes: &[], take: pool_time },
    Word {
        path: &["Connectors", "Redis", "EnableTLS"],
        becomes: &[],
        take: |node| {
            match truth(node) {
            Some(true) => Taken::Refuse(
                "is true, but this version of larder has no TLS yet: give false, and a server that is reached without it".to_owned(),
            ),
            _ => boolean(node),
        }
        },
    },
    Word {
        path: &["Connectors", "Redis", "DisableIndentity"],
        becomes: &[],
        take: |node| match truth(node) {
            Some(true) => Taken::Note(
                "larder tells the server its name and version; a server that does not know the command is no trouble"
                    .to_owned(),
            ),
            _ => boolean(node),
        },
    },
    Word {
        path: &["Connectors", "Redis", "IdentitySuffix"],
        becomes: &[],
        take: |node| match unless_empty(node) {
            Taken::Keep => Taken::Note("larder adds nothing to its name; ClientName names the connection".to_owned()),
            taken => taken,
        },
    },
    Word {
        path: &["Connectors", "Redis", "CircuitBreaker", "Interval"],
        becomes: &[&["redis", "breaker", "window"]],
        take: zero_is_never,
    },
    Word {
        path: &["Connectors", "Redis", "CircuitBreaker", "MaxConsecutiveFailures"],
        becomes: &[&["redis", "breaker", "consecutive_failures"]],
        take: |_| Taken::Keep,
    },
    Word {
        path: &["Connectors", "Redis", "CircuitBreaker", "MaxFailureRatio"],
        becomes: &[&["redis", "breaker", "failure_ratio"]],
        take: |_| Taken::Keep,
    },
    Word {
        path: &["Connectors", "Redis", "CircuitBreaker", "Timeout"],
        becomes: &[&["redis", "breaker", "open"], &["redis", "breaker", "open_max"]],
        take: |node| match time(node) {
            Ok(Time::Some(_)) => Taken::Keep,
            Ok(_) => Taken::As(Value::Text("60s".to_owned())),
            Err(refused) => refused,
        },
    },
    Word {
        path: &["Connectors", "Redis", "CircuitBreaker", "MaxRetryRequests"],
        becomes: &[&["redis", "breaker", "half_open"], &["redis", "breaker", "half_open_successes"]],
        take: |node| match integer(node) {
            Some(0) => Taken::As(Value::Integer(1)),
            _ => Taken::Keep,
        },
    },
];

const CACHES: &[Word] = &[
    Word {
        path: &["Connector"],
        becomes: &[&["connector"]],
        take: |node| match &node.value {
            Value::Text(text) => match text.trim().to_ascii_lowercase() {
                off if off.is_empty() => Taken::As(Value::Text("none".to_owned())),
                name if ["memory", "redis", "postgres"].contains(&name.as_str()) => Taken::As(Value::Text(name)),
                _ => Taken::Refuse(format!(
                    "is {}: give memory, redis, postgres, or an empty text for none",
                    node.shown()
                )),
            },
            _ => Taken::Keep,
        },
    },
    Word { path: &["MaxAge"], becomes: &[&["max_age"]], take: zero_is_never },
    Word { path: &["LastUseAge"], becomes: &[&["last_use_age"]], take: zero_is_never },
    Word { path: &["Log", "Level"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Log", "AddSource"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Log", "Formatter", "Format"], becomes: &[], take: |_| Taken::Drop },
    Word { path: &["Log", "Formatter", "Data"], becomes: &[], take: |_| Taken::Drop },
];

/// The caches that Zitadel knows, and the connector of each where a file does not name one.
const KNOWN: [(&str, &str); 5] = [
    ("Instance", "none"),
    ("Milestones", "none"),
    ("Organization", "none"),
    ("IdPFormCallbacks", "postgres"),
    ("FederatedLogouts", "postgres"),
];

/// Their ages, where a file does not name them.
const MAX_AGE: Duration = Duration::from_secs(3600);
const LAST_USE_AGE: Duration = Duration::from_secs(600);

/// Zitadel's block, if this is a file of Zitadel's: `Caches` by that name, or in another case with `Connectors` in it that are
/// named like Zitadel's. A cache of ours holds no mappings.
fn block(root: &Node) -> Option<&Node> {
    let connectors = |block: &Node| {
        let connectors = block.find(|name| name.eq_ignore_ascii_case("connectors")).map(Node::children);
        connectors.unwrap_or_default().iter().any(|(name, node)| {
            matches!(node.value, Value::Map(_))
                && ["memory", "postgres", "redis"].iter().any(|known| name.eq_ignore_ascii_case(known))
        })
    };
    let found = root.children().iter().find(|(name, block)| {
        name == "Caches" || (name.eq_ignore_ascii_case("caches") && (name != "caches" || connectors(block)))
    });
    found.map(|(_, block)| block)
}

/// Where `root` is a file of Zitadel's, puts it in our words, with Zitadel's own environment variables over it.
pub(super) fn translate(
    root: &mut Node,
    environment: &Environment,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> Vec<Disabled> {
    let Some(block) = block(root) else { return Vec::new() };
    let mut block = canonical(block, problems);
    beside(root, &block, problems, notes);
    variables(&mut block, environment, problems);
    let mut translation = Translation { ours: Node::empty(Origin::default()), problems, notes };
    let disabled = translation.connectors(&block);
    for (name, cache) in block.children().iter().filter(|(name, _)| name != "Connectors") {
        translation.cache(name, cache);
    }
    *root = translation.ours;
    disabled
}

/// The other sections of a file of Zitadel's are not ours, but for those that would be in a file of ours.
fn beside(root: &Node, block: &Node, problems: &mut Problems, notes: &mut Vec<Note>) {
    let mut others = Vec::new();
    for (name, other) in root.children().iter().filter(|(_, other)| other.origin != block.origin) {
        if ["connectors", "defaults", "caches"].contains(&name.to_ascii_lowercase().as_str()) {
            let zitadel = shown_path(&block.origin.path);
            problems.add(&other.origin, format!("stands beside Zitadel's `{zitadel}`: give one or the other"));
        } else {
            others.push(shown_name(name));
        }
    }
    if !others.is_empty() {
        let more = if others.len() > 5 { ", …" } else { "" };
        others.truncate(5);
        let text = "not read: larder's settings are in the section `Caches`";
        notes.push(Note::about(format!("{}{more}", others.join(", ")), text));
    }
}

/// The block with the names as Zitadel's documentation writes them.
fn canonical(block: &Node, problems: &mut Problems) -> Node {
    let Value::Map(children) = &block.value else {
        if !block.is_nothing() {
            problems.add(&block.origin, format!("is {}: give a mapping of `Connectors` and caches", block.kind()));
        }
        return Node::empty(block.origin.clone());
    };
    let mut whole = Node::empty(block.origin.clone());
    for (name, child) in children {
        let (name, child) = if name.eq_ignore_ascii_case("connectors") {
            ("Connectors", section(child, CONNECTORS, &["Connectors"], problems))
        } else {
            (name.as_str(), section(child, CACHES, &[], problems))
        };
        add(&mut whole, name, child, problems);
    }
    whole
}

fn section(node: &Node, words: &'static [Word], path: &[&'static str], problems: &mut Problems) -> Node {
    let Value::Map(children) = &node.value else {
        if !node.is_nothing() {
            problems
                .add(&node.origin, format!("is {}: give a mapping of {}", node.kind(), next(words, path).join(", ")));
        }
        return Node { origin: node.origin.clone(), value: Value::Nothing };
    };
    let known = next(words, path);
    let mut whole = Node::empty(node.origin.clone());
    for (name, child) in children {
        let Some(word) = known.iter().find(|word| word.eq_ignore_ascii_case(name)) else {
            problems.add(&child.origin, unknown(name, &known));
            continue;
        };
        let path = [path, &[*word]].concat();
        let inner = words.iter().any(|word| word.path.len() > path.len() && word.path.starts_with(&path));
        let child = if inner { section(child, words, &path, problems) } else { child.clone() };
        add(&mut whole, word, child, problems);
    }
    whole
}

/// The names that may follow `path`.
fn next(words: &'static [Word], path: &[&str]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for word in words.iter().filter(|word| word.path.starts_with(path)) {
        if let Some(name) = word.path.get(path.len())
            && !names.contains(name)
        {
            names.push(name);
        }
    }
    names
}

fn add(whole: &mut Node, name: &str, child: Node, problems: &mut Problems) {
    if whole.children().iter().any(|(known, _)| known == name) {
        problems.add(&child.origin, "is given twice: case makes no difference here");
    } else {
        whole.insert(&[name], child);
    }
}

/// Puts Zitadel's environment variables in their places.
fn variables(block: &mut Node, environment: &Environment, problems: &mut Problems) {
    for (rest, name, value) in environment.beginning("ZITADEL_CACHES_", problems) {
        let upper = |path: &[&str]| path.join("_").to_ascii_uppercase();
        let connector = CONNECTORS.iter().find(|word| upper(word.path) == rest);
        let path: Vec<String> = match connector {
            Some(word) => word.path.iter().map(|name| (*name).to_owned()).collect(),
            None => match cache_variable(block, &rest) {
                Some(path) if !rest.starts_with("CONNECTORS_") => path,
                _ => {
                    let known: Vec<String> = CONNECTORS.iter().map(|word| upper(word.path)).collect();
                    let near = nearest(&rest, known.iter().map(String::as_str));
                    let hint = near.map(|near| format!("; did you mean ZITADEL_CACHES_{near}?")).unwrap_or_default();
                    problems
                        .add(&environment::variable(&name, &[]), format!("names no setting of Zitadel's caches{hint}"));
                    continue;
                }
            },
        };
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        block.insert(&path, environment::node(&name, &[&["Caches"], &path[..]].concat(), &value));
    }
}

fn cache_variable(block: &Node, rest: &str) -> Option<Vec<String>> {
    let (word, name) = CACHES
        .iter()
        .filter_map(|word| {
            let suffix = format!("_{}", word.path.join("_").to_ascii_uppercase());
            Some((word, rest.strip_suffix(&suffix)?))
        })
        .find(|(_, name)| !name.is_empty())?;
    let listed = block.children().iter().map(|(name, _)| name.as_str());
    let known = listed.chain(KNOWN.map(|(name, _)| name)).find(|known| known.eq_ignore_ascii_case(name));
    let name = known.map_or_else(|| name.to_ascii_lowercase(), str::to_owned);
    Some(std::iter::once(name).chain(word.path.iter().map(|name| (*name).to_owned())).collect())
}

struct Translation<'a> {
    /// What a file of ours would have said.
    ours: Node,
    problems: &'a mut Problems,
    notes: &'a mut Vec<Note>,
}

impl Translation<'_> {
    fn note(&mut self, origin: &Origin, text: impl Into<String>) {
        self.notes.push(Note::new(origin, text));
    }

    /// Takes what stands under the names of `words`.
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

    /// Puts a section of ours where Zitadel's is, so that errors about it name a place that exists.
    fn open(&mut self, path: &[&str], from: &Node) {
        self.put(path, &from.origin, Value::Map(Vec::new()));
    }

    fn connectors(&mut self, block: &Node) -> Vec<Disabled> {
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

    /// Where the server is, who we are there, and in which database.
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
                    self.note(&other.origin, "not used: URL says it");
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
                (Some(username), None) => self.note(&username.origin, "not used: without a Password nobody logs in"),
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
            // As Go dials it.
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
        // Zitadel's defaults, to be overwritten by what is given.
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

    fn cache(&mut self, name: &str, cache: &Node) {
        let ours = ["caches", name];
        self.open(&ours, cache);
        let known = KNOWN.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let connector = known.map_or("none", |(_, connector)| connector);
        self.put(&["caches", name, "connector"], &cache.origin.child("Connector"), Value::Text(connector.to_owned()));
        self.take(cache, CACHES, &ours);
        if let Some(log) = cache.child("Log") {
            self.note(&log.origin, "larder logs through `tracing`: what is subscribed there decides level and format");
        }
        if known.is_some() {
            self.default_ages(name, cache);
        }
    }

    /// The ages that Zitadel merges into the file. One that was given makes sense of the other.
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

/// A duration as Zitadel takes it.
enum Time {
    Negative,
    Zero,
    Some(Duration),
}

fn time(node: &Node) -> Result<Time, Taken> {
    let refuse = |reason: &str| Taken::Refuse(format!("is {}{reason}: give a duration such as 1h30m", node.shown()));
    match &node.value {
        Value::Integer(0) => Ok(Time::Zero),
        Value::Integer(integer) if *integer < 0 => Ok(Time::Negative),
        Value::Integer(_) | Value::Float(_) => Err(refuse(", which has no unit")),
        Value::Text(text) => match text.trim().strip_prefix('-') {
            Some("1" | "2") => Ok(Time::Negative),
            Some(rest) => duration::parse(rest).map(|_| Time::Negative).map_err(refuse),
            None => match duration::parse(text).map_err(refuse)? {
                Duration::ZERO => Ok(Time::Zero),
                some => Ok(Time::Some(some)),
            },
        },
        _ => Err(refuse("")),
    }
}

fn time_or(node: &Node, taken: impl FnOnce(Time) -> Taken) -> Taken {
    match time(node) {
        Ok(time) => taken(time),
        Err(refused) => refused,
    }
}

/// Where zero, and what is negative, mean: never.
fn zero_is_never(node: &Node) -> Taken {
    time_or(node, |time| match time {
        Time::Some(_) => Taken::Keep,
        Time::Zero | Time::Negative => Taken::As(Value::Integer(0)),
    })
}

/// A time-out: zero is the default, a negative one is none, which larder does not have.
fn timeout(node: &Node, default: &str) -> Taken {
    time_or(node, |time| match time {
        Time::Some(_) => Taken::Keep,
        Time::Zero => {
            Taken::AsNote(Value::Text(default.to_owned()), format!("0 is the default, and larder's is {default}"))
        }
        Time::Negative => Taken::AsNote(
            Value::Text(default.to_owned()),
            format!("larder always has a time-out, so that a server that hangs costs little: {default}, its default"),
        ),
    })
}

/// A duration without a use; negative, it says what larder does anyway.
fn pointless_time(node: &Node, instead: &str) -> Taken {
    time_or(node, |time| match time {
        Time::Negative => Taken::Drop,
        _ => Taken::Note(instead.to_owned()),
    })
}

fn pool_time(node: &Node) -> Taken {
    time_or(node, |_| Taken::Note(POOL.to_owned()))
}

fn pool_number(node: &Node) -> Taken {
    match integer(node) {
        Some(_) => Taken::Note(POOL.to_owned()),
        None => Taken::Refuse(format!("is {}: give a number", node.shown())),
    }
}

fn integer(node: &Node) -> Option<i128> {
    match &node.value {
        Value::Integer(integer) => Some(*integer),
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn truth(node: &Node) -> Option<bool> {
    match &node.value {
        Value::Bool(bool) => Some(*bool),
        Value::Integer(0) => Some(false),
        Value::Integer(1) => Some(true),
        Value::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Some(true),
            "false" | "f" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Only checked: who needs it asks again.
fn boolean(node: &Node) -> Taken {
    match truth(node) {
        Some(_) => Taken::Drop,
        None => Taken::Refuse(format!("is {}: give true or false", node.shown())),
    }
}

fn empty(node: &Node) -> bool {
    matches!(&node.value, Value::Text(text) if text.trim().is_empty())
}

fn unless_empty(node: &Node) -> Taken {
    if empty(node) { Taken::Drop } else { Taken::Keep }
}
