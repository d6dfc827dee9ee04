//! `connectors.redis`: which server, who we are there, and how long we wait.

use super::address::{Address, LAST_DATABASE, Url, is_host};
use super::breaker::BreakerSettings;
use super::error::Problems;
use super::secret::{HIDDEN, Secret};
use super::setting::{
    Given, Place, Refused, Setting, bytes, duration, number, plain, put, read, text, time, written_bytes, written_text,
};
use super::tree::{Node, Origin, shown_path};
use crate::options::{self, OptionError, Refuse, is_name};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The settings of the redis connector: one server, one connection to it.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisConfig {
    /// Where the server listens. Default `127.0.0.1:6379`.
    pub address: Address,
    /// The database, by number. Default 0.
    pub database: u32,
    /// Who logs in; none: the server's default user.
    pub username: Option<String>,
    /// With what; none: nobody logs in, so a user name needs one.
    pub password: Option<Secret>,
    /// What the connection is called in `CLIENT LIST`; letters, digits and signs, without spaces.
    pub client_name: Option<String>,
    /// What every key begins with; 1 to 128 letters, digits, `_`, `-` and `.`. Default `larder`.
    pub prefix: String,
    /// How long connecting, with all that is checked then, may take; up to an hour. Default 1 s.
    pub connect_timeout: Duration,
    /// How long one operation may take; up to an hour. Default 100 ms.
    pub operation_timeout: Duration,
    /// Strict mode: an invalidation, delete, truncate or set counts as applied once so many replicas have it; zero: once the server
    /// has it. At most 1000. Default 0.
    pub wait_replicas: u32,
    /// How long replicas may take for that, up to an hour; then it is deferred, and delivered again until they have it. Default 50 ms.
    pub wait_timeout: Duration,
    /// The circuit breaker.
    pub breaker: BreakerSettings,
    /// Keys that wait to be invalidated, per cache, 1 or more; above it everything in the cache is forgotten instead. Default 10,000.
    pub journal_limit: usize,
    /// What those keys may take up in memory, per cache, in bytes, 1 or more; above it everything is forgotten as well. Default 16 MiB.
    pub journal_bytes: usize,
    /// How long a shutdown waits for what could not be delivered yet. Default 1 s.
    pub shutdown_timeout: Duration,
    /// Secondary keys, per cache, of which this process remembers where they lead; 1 to 100,000,000. Default 100,000.
    pub hints: usize,
    /// Operations under way at once. More gets, lookups and fills are shed; more changes (set, invalidate, delete, truncate) wait for a
    /// place, for at most [`operation_timeout`](Self::operation_timeout), before they are sent. Zero: no limit. Default 256.
    pub max_in_flight: usize,
    /// How often keys that lead nowhere are removed; zero: never. Each node does it. Default 1 h.
    pub prune_interval: Duration,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            address: Address::Tcp { host: "127.0.0.1".into(), port: 6379 },
            database: 0,
            username: None,
            password: None,
            client_name: None,
            prefix: "larder".into(),
            connect_timeout: Duration::from_secs(1),
            operation_timeout: Duration::from_millis(100),
            wait_replicas: 0,
            wait_timeout: Duration::from_millis(50),
            breaker: BreakerSettings::default(),
            journal_limit: 10_000,
            journal_bytes: 16 << 20,
            shutdown_timeout: Duration::from_secs(1),
            hints: 100_000,
            max_in_flight: 256,
            prune_interval: Duration::from_secs(3600),
        }
    }
}

impl RedisConfig {
    /// Checks that every setting can be used. [`Redis::open`](crate::connector::redis::Redis::open) refuses what is not.
    ///
    /// # Errors
    ///
    /// The first setting that cannot be used, and what is accepted: the same that is refused where a configuration says it.
    pub fn validate(&self) -> Result<(), OptionError> {
        OptionError::first(|refuse| self.examine(refuse))
    }

    /// Tells of every setting that cannot be used.
    pub(super) fn examine(&self, refuse: Refuse<'_>) {
        const LONGEST: Duration = Duration::from_secs(3600);
        let give = |name| SETTINGS.iter().find(|setting| setting.name == name).map_or("", |setting| setting.give);
        if !is_reachable(&self.address) {
            refuse(OptionError::hidden(
                "address",
                "is neither a host and a port nor the path of a Unix socket, or the path is too long (Linux takes 107 bytes)",
            ));
        }
        if self.database > LAST_DATABASE {
            refuse(OptionError::new("database", self.database, give("database")));
        }
        let empty = |text: &str| text.trim().is_empty();
        if self.username.as_deref().is_some_and(empty) {
            refuse(OptionError::hidden("username", "is empty: give a user name, or none"));
        }
        if self.password.as_ref().is_some_and(|password| empty(password.expose())) {
            refuse(OptionError::hidden("password", "is empty: give a password, or none"));
        }
        if self.username.is_some() && self.password.is_none() {
            refuse(OptionError::hidden("username", NO_PASSWORD));
        }
        if let Some(name) = &self.client_name
            && (name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            refuse(OptionError::new("client_name", name, give("client_name")));
        }
        if !is_name(&self.prefix) {
            refuse(OptionError::new("prefix", &self.prefix, give("prefix")));
        }
        for (name, value) in [
            ("connect_timeout", self.connect_timeout),
            ("operation_timeout", self.operation_timeout),
            (WAIT_TIMEOUT, self.wait_timeout),
        ] {
            if value.is_zero() || value > LONGEST {
                refuse(OptionError::duration(name, value, give(name)));
            }
        }
        if self.wait_replicas > 1000 {
            refuse(OptionError::new(WAIT_REPLICAS, self.wait_replicas, give(WAIT_REPLICAS)));
        }
        for (name, value) in [("journal_limit", self.journal_limit), ("journal_bytes", self.journal_bytes)] {
            if value == 0 {
                refuse(OptionError::new(name, value, give(name)));
            }
        }
        // Places for all of them are made when a cache is opened.
        if !(1..=100_000_000).contains(&self.hints) {
            refuse(OptionError::new("hints", self.hints, give("hints")));
        }
        if self.breaker.max_in_flight != 0 {
            let accepted = "0 here, and the limit as `max_in_flight` of the connector";
            refuse(OptionError::new("breaker.max_in_flight", self.breaker.max_in_flight, accepted));
        }
        self.breaker.examine(&mut |error| refuse(error.within("breaker.")));
    }
}

const NO_PASSWORD: &str = "has a user name and no password: give `password` or `password_file` too";

/// Whether one could connect to this. Nothing is looked up.
fn is_reachable(address: &Address) -> bool {
    match address {
        // IPv6 addresses have colons, and sometimes the name of an interface after `%`.
        Address::Tcp { host, port } => *port > 0 && is_host(host.split('%').next().unwrap_or("")),
        Address::Unix(path) => is_socket(path),
    }
}

#[cfg(unix)]
fn is_socket(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    // What begins with a zero byte is an abstract name, which is no file.
    let bytes = path.as_os_str().as_bytes();
    match bytes.strip_prefix(b"\0") {
        Some(name) => (1..=107).contains(&name.len()),
        None => !bytes.is_empty() && std::os::unix::net::SocketAddr::from_pathname(path).is_ok(),
    }
}

#[cfg(not(unix))]
fn is_socket(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

/// The settings as they are given, before those that say the same thing in two ways are put together.
#[derive(Debug, Default)]
pub(super) struct Draft {
    config: RedisConfig,
    url: Option<Url>,
    address: Option<Address>,
    socket: Option<PathBuf>,
    password_file: Option<PathBuf>,
}

/// Settings of which one at most may be given: they say the same thing. A variable takes the place of the others in a file.
pub(super) const ALTERNATIVES: [&[&str]; 2] = [&["url", "address", "socket"], &["password", "password_file"]];

/// What a URL may say as well.
pub(super) const IN_URL: [&str; 4] = ["username", "password", "password_file", "database"];

pub(super) const BREAKER: &str = "breaker";

const WAIT_REPLICAS: &str = "wait_replicas";
const WAIT_TIMEOUT: &str = "wait_timeout";

pub(super) const SETTINGS: &[Setting<Draft>] = &[
    Setting {
        name: "url",
        give: "redis://user:password@host:port/database or redis+unix:///path?db=database",
        read: |redis, node| {
            let url = Url::parse(text(node)?).map_err(|reason| Refused::Hidden(reason.to_owned()))?;
            redis.url = Some(url);
            Ok(())
        },
        // Written as what it says.
        write: |_| None,
    },
    Setting {
        name: "address",
        give: "host:port",
        read: |redis, node| {
            // Not shown: a URL with a password is easily given here by mistake.
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
        name: "username",
        give: "text",
        read: |redis, node| put(&mut redis.config.username, text(node).map(|name| Some(name.to_owned()))),
        write: |redis| redis.config.username.as_ref().and_then(written_text),
    },
    Setting {
        name: "password",
        give: "text",
        read: |redis, node| put(&mut redis.config.password, text(node).map(|text| Some(Secret::new(text)))),
        write: |redis| redis.config.password.as_ref().filter(|secret| secret.file().is_none()).and_then(written_text),
    },
    Setting {
        name: "password_file",
        give: "the path of a file that holds the password",
        read: |redis, node| put(&mut redis.password_file, text(node).map(|path| Some(path.into()))),
        write: |redis| written_text(redis.config.password.as_ref()?.file()?.display()),
    },
    Setting {
        name: "database",
        give: "a number, 0 to 2147483647",
        read: |redis, node| put(&mut redis.config.database, number(node)),
        write: |redis| plain(redis.config.database),
    },
    Setting {
        name: "client_name",
        give: "letters, digits and signs, without spaces",
        read: |redis, node| put(&mut redis.config.client_name, text(node).map(|name| Some(name.to_owned()))),
        write: |redis| redis.config.client_name.as_ref().and_then(written_text),
    },
    Setting {
        name: "prefix",
        give: options::NAME,
        read: |redis, node| put(&mut redis.config.prefix, text(node).map(str::to_owned)),
        write: |redis| written_text(&redis.config.prefix),
    },
    Setting {
        name: "connect_timeout",
        give: "a duration above 0 and up to 1h, such as 1s",
        read: |redis, node| put(&mut redis.config.connect_timeout, duration(node)),
        write: |redis| time(redis.config.connect_timeout),
    },
    Setting {
        name: "operation_timeout",
        give: "a duration above 0 and up to 1h, such as 100ms",
        read: |redis, node| put(&mut redis.config.operation_timeout, duration(node)),
        write: |redis| time(redis.config.operation_timeout),
    },
    Setting {
        name: WAIT_REPLICAS,
        give: "a number of replicas up to 1000, 0 for none",
        read: |redis, node| put(&mut redis.config.wait_replicas, number(node)),
        write: |redis| plain(redis.config.wait_replicas),
    },
    Setting {
        name: WAIT_TIMEOUT,
        give: "a duration above 0 and up to 1h, such as 50ms",
        read: |redis, node| put(&mut redis.config.wait_timeout, duration(node)),
        // It means nothing by itself.
        write: |redis| if redis.config.wait_replicas > 0 { time(redis.config.wait_timeout) } else { None },
    },
    Setting {
        name: "max_in_flight",
        give: "a number, 0 for no limit",
        read: |redis, node| put(&mut redis.config.max_in_flight, number(node)),
        write: |redis| plain(redis.config.max_in_flight),
    },
    Setting {
        name: "journal_limit",
        give: "a number, 1 or more",
        read: |redis, node| put(&mut redis.config.journal_limit, number(node)),
        write: |redis| plain(redis.config.journal_limit),
    },
    Setting {
        name: "journal_bytes",
        give: "a size of 1 B or more, such as 16 MiB",
        read: |redis, node| {
            let size = usize::try_from(bytes(node)?).map_err(|_| Refused::Shown(""));
            put(&mut redis.config.journal_bytes, size)
        },
        write: |redis| written_bytes(redis.config.journal_bytes as u64),
    },
    Setting {
        name: "shutdown_timeout",
        give: "a duration such as 1s, or 0 for no waiting",
        read: |redis, node| put(&mut redis.config.shutdown_timeout, duration(node)),
        write: |redis| time(redis.config.shutdown_timeout),
    },
    Setting {
        name: "hints",
        give: "a number, 1 to 100000000",
        read: |redis, node| put(&mut redis.config.hints, number(node)),
        write: |redis| plain(redis.config.hints),
    },
    Setting {
        name: "prune_interval",
        give: "a duration such as 1h, or 0 for never",
        read: |redis, node| put(&mut redis.config.prune_interval, duration(node)),
        write: |redis| time(redis.config.prune_interval),
    },
];

/// The settings, and whether they say where the server is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Redis {
    pub(super) config: RedisConfig,
    pub(super) addressed: bool,
}

impl Redis {
    pub(super) fn read(section: &Node, problems: &mut Problems) -> Self {
        let mut draft = Draft::default();
        let given = read(section, SETTINGS, &[BREAKER], &mut draft, problems);
        if let Some(section) = section.child(BREAKER) {
            draft.config.breaker = BreakerSettings::read(section, problems);
        }
        contradictions(&draft, &given, problems);
        draft.put_together(&given, section, problems)
    }

    /// The rows as they are written.
    pub(super) fn draft(&self) -> Draft {
        let address = self.addressed.then(|| self.config.address.clone());
        let (address, socket) = match address {
            Some(Address::Unix(path)) => (None, Some(path)),
            address => (address, None),
        };
        Draft { config: self.config.clone(), address, socket, url: None, password_file: None }
    }
}

/// Settings that cannot both be meant.
fn contradictions(draft: &Draft, given: &Given, problems: &mut Problems) {
    if let Some(timeout) = given.origin(WAIT_TIMEOUT).filter(|_| draft.config.wait_replicas == 0) {
        problems.add(timeout, format!("says how long to wait for no replica: give `{WAIT_REPLICAS}` too, or neither"));
    }
    let mut both = |first: &str, second: &str| {
        if let (Some(first), Some(second)) = (given.origin(first), given.origin(second))
            && !outranks(Some(second), Some(first))
        {
            problems.add(second, format!("contradicts {}: give one of the two", named(first)));
        }
    };
    for alternatives in ALTERNATIVES {
        for (place, first) in alternatives.iter().enumerate() {
            for second in alternatives.iter().skip(place + 1) {
                both(first, second);
            }
        }
    }
    let Some(url) = &draft.url else { return };
    for name in IN_URL.iter().filter(|name| url.says(name)) {
        both("url", name);
    }
}

/// Whether the first was given by a variable and the second in a file.
fn outranks(first: Option<&Origin>, second: Option<&Origin>) -> bool {
    let variable = |origin: Option<&Origin>| origin.map(|origin| origin.variable.is_some());
    variable(first) == Some(true) && variable(second) == Some(false)
}

fn named(origin: &Origin) -> String {
    match &origin.variable {
        Some(variable) => format!("the environment variable {variable}"),
        None => format!("`{}`", shown_path(&origin.path)),
    }
}

impl Draft {
    fn put_together(self, given: &Given, section: &Node, problems: &mut Problems) -> Redis {
        let Self { mut config, url, address, socket, password_file } = self;
        let mut addressed = true;
        if let Some(url) = url {
            config.address = url.address;
            let variable = |name| outranks(given.origin(name), given.origin("url"));
            if !variable("username") {
                config.username = url.username.or(config.username);
            }
            if !variable("password") {
                config.password = url.password.or(config.password);
            }
            if !variable("database") {
                config.database = url.database.unwrap_or(config.database);
            }
        } else if let Some(address) = address.or(socket.map(Address::Unix)) {
            config.address = address;
        } else {
            addressed = false;
        }
        if let (Some(path), Some(origin)) = (password_file, given.origin("password_file")) {
            match Secret::read(&path) {
                Ok(password) => config.password = Some(password),
                Err(reason) => {
                    problems.add(origin, format!("names {}, which {reason}", path.display()));
                    // That is all that is wrong with it: a password was given.
                    config.username = None;
                }
            }
        }
        config.examine(&mut |error| report(&error, section, given, problems));
        Redis { config, addressed }
    }
}

/// Reports what cannot be used, where it was given. The breaker reports its own.
fn report(error: &OptionError, section: &Node, given: &Given, problems: &mut Problems) {
    let name = error.option();
    if name.starts_with("breaker.") {
        return;
    }
    if given.origin(name).is_some() {
        return Place { section, given, inherited: None }.report(error, problems);
    }
    // Other settings that say it as well. Their own text may hold a password.
    let others = ALTERNATIVES.iter().filter(|names| names.contains(&name)).flat_map(|names| names.iter());
    let origin = others.chain(&["url"]).find_map(|name| given.origin(name)).unwrap_or(&section.origin);
    problems.add(origin, error.after_name(None, None));
}

/// Whether this is what larder prints in place of a password.
pub(super) fn hidden(config: &RedisConfig) -> bool {
    config.password.as_ref().is_some_and(|password| password.expose() == HIDDEN)
}
