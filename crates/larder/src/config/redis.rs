//! The settings of a redis connector: the server, the credentials, the time-outs and the limits.

use super::breaker;
use super::connectors::{BREAKER, KIND};
use super::error::Problems;
use super::sentinel::{self, SENTINEL};
use super::setting::{
    Given, Place, Refused, Setting, Written, bytes, contradict, duration, number, outranks, plain, put, read, text,
    text_or_texts, time, written_bytes, written_text,
};
use super::tls::{self, TLS};
use super::tree::Node;
use crate::connector::redis::options::{Address, RedisOptions, Url, accepted};
use crate::connector::secret::{HIDDEN, Secret};
use crate::option_error::OptionError;
use std::path::PathBuf;

/// The settings as they are given, before the URL and the other settings are merged.
#[derive(Debug, Default)]
pub(super) struct Draft {
    options: RedisOptions,
    url: Option<Url>,
    address: Option<Address>,
    socket: Option<PathBuf>,
    password_file: Option<PathBuf>,
}

/// Settings of which at most one may be given, because they say the same thing. A variable replaces the others of the file.
pub(super) const ALTERNATIVES: [&[&str]; 2] = [&["url", "address", "socket"], &["password", "password_file"]];

/// Settings that a URL may contain.
pub(super) const IN_URL: [&str; 5] = ["username", "password", "password_file", "database", CLUSTER];

const CLUSTER: &str = "cluster";

pub(super) const NO_ADDRESS: &str = "does not say where the server is: give `url`, `address`, `socket` or `sentinel`";

const WAIT_REPLICAS: &str = "wait_replicas";
const WAIT_TIMEOUT: &str = "wait_timeout";

pub(super) const SETTINGS: &[Setting<Draft>] = &[
    Setting {
        name: "url",
        give: "redis://user:password@host:port/database, rediss:// for TLS, redis+unix:///path?db=database, \
               redis-sentinel://host:port,host:port/database#master, or redis-cluster://host:port,host:port",
        read: |redis, node| {
            let url = Url::parse(text(node)?).map_err(|reason| Refused::Hidden(reason.to_owned()))?;
            redis.url = Some(url);
            Ok(())
        },
        // The settings that it contains are written instead.
        write: |_| None,
    },
    Setting {
        name: "address",
        give: "host:port",
        read: |redis, node| {
            // The value is not shown: it may be a URL with a password, given here by mistake.
            let address =
                Address::parse(text(node)?).ok_or_else(|| Refused::Hidden("is no host and port".to_owned()))?;
            redis.address = Some(address);
            Ok(())
        },
        write: |redis| redis.address.as_ref().and_then(written_text),
    },
    Setting {
        name: "socket",
        give: "the path of a Unix socket",
        read: |redis, node| match text(node)? {
            url if url.contains("://") && !url.starts_with('/') => {
                Err(Refused::Hidden("is a URL, not a path".to_owned()))
            }
            path => put(&mut redis.socket, Ok(Some(path.into()))),
        },
        write: |redis| redis.socket.as_ref().and_then(|path| written_text(path.display())),
    },
    Setting {
        name: CLUSTER,
        give: "further nodes of the cluster, each as host:port, or [] if one is enough",
        read: |redis, node| {
            // A variable gives them all as one text.
            let texts = text_or_texts(node)?;
            let nodes = texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|node| !node.is_empty());
            let nodes = nodes.map(Address::parse).collect::<Option<Vec<_>>>();
            // Not shown: it may be a URL with a password, given here by mistake.
            let nodes = nodes.ok_or_else(|| Refused::Hidden("has one that is no host and port".to_owned()));
            put(&mut redis.options.cluster, nodes.map(Some))
        },
        write: |redis| {
            let nodes = redis.options.cluster.as_ref()?;
            Some(Written::Texts(nodes.iter().map(ToString::to_string).collect()))
        },
    },
    Setting {
        name: "username",
        give: "text",
        read: |redis, node| put(&mut redis.options.username, text(node).map(|name| Some(name.to_owned()))),
        write: |redis| redis.options.username.as_ref().and_then(written_text),
    },
    Setting {
        name: "password",
        give: "text",
        read: |redis, node| put(&mut redis.options.password, text(node).map(|text| Some(Secret::new(text)))),
        write: |redis| redis.options.password.as_ref().filter(|secret| secret.file().is_none()).and_then(written_text),
    },
    Setting {
        name: "password_file",
        give: "the path of a file that holds the password",
        read: |redis, node| put(&mut redis.password_file, text(node).map(|path| Some(path.into()))),
        write: |redis| written_text(redis.options.password.as_ref()?.file()?.display()),
    },
    Setting {
        name: "database",
        give: accepted::DATABASE,
        read: |redis, node| put(&mut redis.options.database, number(node)),
        write: |redis| plain(redis.options.database),
    },
    Setting {
        name: "client_name",
        give: accepted::CLIENT_NAME,
        read: |redis, node| put(&mut redis.options.client_name, text(node).map(|name| Some(name.to_owned()))),
        write: |redis| redis.options.client_name.as_ref().and_then(written_text),
    },
    Setting {
        name: "prefix",
        give: accepted::PREFIX,
        read: |redis, node| put(&mut redis.options.prefix, text(node).map(str::to_owned)),
        write: |redis| written_text(&redis.options.prefix),
    },
    Setting {
        name: "connect_timeout",
        give: accepted::CONNECT_TIMEOUT,
        read: |redis, node| put(&mut redis.options.connect_timeout, duration(node)),
        write: |redis| time(redis.options.connect_timeout),
    },
    Setting {
        name: "operation_timeout",
        give: accepted::OPERATION_TIMEOUT,
        read: |redis, node| put(&mut redis.options.operation_timeout, duration(node)),
        write: |redis| time(redis.options.operation_timeout),
    },
    Setting {
        name: WAIT_REPLICAS,
        give: accepted::WAIT_REPLICAS,
        read: |redis, node| put(&mut redis.options.wait_replicas, number(node)),
        write: |redis| plain(redis.options.wait_replicas),
    },
    Setting {
        name: WAIT_TIMEOUT,
        give: accepted::WAIT_TIMEOUT,
        read: |redis, node| put(&mut redis.options.wait_timeout, duration(node)),
        // Without replicas to wait for it has no effect.
        write: |redis| if redis.options.wait_replicas > 0 { time(redis.options.wait_timeout) } else { None },
    },
    Setting {
        name: "max_in_flight",
        give: "a number, 0 for no limit",
        read: |redis, node| put(&mut redis.options.max_in_flight, number(node)),
        write: |redis| plain(redis.options.max_in_flight),
    },
    Setting {
        name: "journal_limit",
        give: accepted::JOURNAL_LIMIT,
        read: |redis, node| put(&mut redis.options.journal_limit, number(node)),
        write: |redis| plain(redis.options.journal_limit),
    },
    Setting {
        name: "journal_bytes",
        give: accepted::JOURNAL_BYTES,
        read: |redis, node| {
            let size = usize::try_from(bytes(node)?).map_err(|_| Refused::Shown(""));
            put(&mut redis.options.journal_bytes, size)
        },
        write: |redis| written_bytes(redis.options.journal_bytes as u64),
    },
    Setting {
        name: "shutdown_timeout",
        give: "a duration such as 1s, or 0 for no waiting",
        read: |redis, node| put(&mut redis.options.shutdown_timeout, duration(node)),
        write: |redis| time(redis.options.shutdown_timeout),
    },
    Setting {
        name: "hints",
        give: accepted::HINTS,
        read: |redis, node| put(&mut redis.options.hints, number(node)),
        write: |redis| plain(redis.options.hints),
    },
    Setting {
        name: "prune_interval",
        give: "a duration such as 1h, or 0 for never",
        read: |redis, node| put(&mut redis.options.prune_interval, duration(node)),
        write: |redis| time(redis.options.prune_interval),
    },
];

/// The settings, and whether they say where the server is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Redis {
    pub(super) options: RedisOptions,
    pub(super) addressed: bool,
}

impl Redis {
    pub(super) fn read(section: &Node, problems: &mut Problems) -> Self {
        let mut draft = Draft::default();
        let given = read(section, SETTINGS, &[BREAKER, KIND, SENTINEL, TLS], &mut draft, problems);
        if let Some(section) = section.child(BREAKER) {
            draft.options.breaker = breaker::read_options(section, problems);
        }
        let in_url = draft.url.as_ref().map(|url| url.tls.clone());
        draft.options.tls = tls::read_options(section.child(TLS), in_url, problems);
        let sentinel = section.child(SENTINEL);
        draft.options.sentinel = sentinel::read_options(sentinel, draft.url.as_ref(), &given, problems);
        contradictions(&draft, &given, problems);
        draft.put_together(&given, section, problems)
    }

    /// The settings, as the effective configuration writes them.
    pub(super) fn draft(&self) -> Draft {
        let address =
            Some(&self.options.address).filter(|_| self.addressed && self.options.sentinel.is_none()).cloned();
        let (address, socket) = match address {
            Some(Address::Unix(path)) => (None, Some(path)),
            address => (address, None),
        };
        Draft { options: self.options.clone(), address, socket, url: None, password_file: None }
    }
}

/// Whether a URL contains what the setting of this name says.
pub(super) fn says(url: &Url, setting: &str) -> bool {
    match setting {
        "username" => url.username.is_some(),
        "password" | "password_file" => url.password.is_some(),
        "database" => url.database.is_some(),
        CLUSTER => url.cluster.is_some(),
        _ => false,
    }
}

/// Reports settings that contradict each other.
fn contradictions(draft: &Draft, given: &Given, problems: &mut Problems) {
    if let Some(timeout) = given.origin(WAIT_TIMEOUT).filter(|_| draft.options.wait_replicas == 0) {
        problems.add(timeout, format!("says how long to wait for no replica: give `{WAIT_REPLICAS}` too, or neither"));
    }
    let mut both = |first: &str, second: &str| contradict(given, first, second, problems);
    for alternatives in ALTERNATIVES {
        for (place, first) in alternatives.iter().enumerate() {
            for second in alternatives.iter().skip(place + 1) {
                both(first, second);
            }
        }
    }
    let Some(url) = &draft.url else { return };
    for name in IN_URL.iter().filter(|name| says(url, name)) {
        both("url", name);
    }
}

impl Draft {
    fn put_together(self, given: &Given, section: &Node, problems: &mut Problems) -> Redis {
        let Self { options: mut redis, url, address, socket, password_file } = self;
        let mut addressed = true;
        if let Some(url) = url {
            redis.address = url.address;
            redis.cluster = url.cluster.or(redis.cluster);
            let variable = |name| outranks(given.origin(name), given.origin("url"));
            if !variable("username") {
                redis.username = url.username.or(redis.username);
            }
            if !variable("password") {
                redis.password = url.password.or(redis.password);
            }
            if !variable("database") {
                redis.database = url.database.unwrap_or(redis.database);
            }
        } else if let Some(address) = address.or(socket.map(Address::Unix)) {
            redis.address = address;
        } else {
            // If the section cannot be used, that is reported, and not that there is no address.
            addressed = section.child(SENTINEL).is_some();
        }
        if let (Some(path), Some(origin)) = (password_file, given.origin("password_file")) {
            match Secret::read(&path) {
                Ok(password) => redis.password = Some(password),
                Err(reason) => {
                    problems.add(origin, format!("names {}, which {reason}", path.display()));
                    // A password was given, so a user name without a password must not be reported as well.
                    redis.username = None;
                }
            }
        }
        redis.examine(&mut |error| report(&error, section, given, problems));
        Redis { options: redis, addressed }
    }
}

/// Reports an option that cannot be used, where it was given. `breaker.rs` reports the options of the breaker.
fn report(error: &OptionError, section: &Node, given: &Given, problems: &mut Problems) {
    let name = error.option();
    if name.starts_with("breaker.") {
        return;
    }
    if let [path @ .., name] = name.split('.').collect::<Vec<_>>().as_slice()
        && !path.is_empty()
    {
        // The URL may have given it, and not the section.
        let place = path.iter().try_fold(section, |node, name| node.child(name)).and_then(|node| node.child(name));
        let place = place.map(|node| &node.origin);
        let origin = place.or(given.origin("url")).unwrap_or(&section.origin);
        return problems.add(origin, error.after_name(None, None));
    }
    if name == TLS
        && let Some(tls) = section.child(TLS)
    {
        return problems.add(&tls.origin, error.after_name(None, None));
    }
    if given.origin(name).is_some() {
        return Place { section, given, inherited: None }.report(error, problems);
    }
    // Another setting has given the option, such as the URL. Its text is not shown: it may hold a password.
    let others = ALTERNATIVES.iter().filter(|names| names.contains(&name)).flat_map(|names| names.iter());
    let origin = others.chain(&["url"]).find_map(|name| given.origin(name)).unwrap_or(&section.origin);
    problems.add(origin, error.after_name(None, None));
}

/// The places of passwords that are the text which larder prints in place of a password.
pub(super) fn hidden(redis: &RedisOptions) -> Vec<&'static [&'static str]> {
    let of_sentinels = redis.sentinel.as_ref().and_then(|sentinel| sentinel.password.as_ref());
    let all: [(Option<&Secret>, &'static [&'static str]); 2] =
        [(redis.password.as_ref(), &["password"]), (of_sentinels, &[SENTINEL, "password"])];
    let hidden = all.into_iter().filter(|(secret, _)| secret.is_some_and(|secret| secret.expose() == HIDDEN));
    hidden.map(|(_, path)| path).collect()
}
