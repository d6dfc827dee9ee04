//! The settings of a postgres connector: the database, the password, the time-outs and the limits.

use super::breaker;
use super::connectors::{BREAKER, KIND};
use super::error::Problems;
use super::setting::{
    Given, Place, Refused, Setting, boolean, bytes, contradict, duration, number, outranks, plain, put, read, text,
    time, written_bytes, written_text,
};
use super::tree::Node;
use crate::connector::postgres::options::{PostgresOptions, Url, accepted, read_url};
use crate::connector::secret::{HIDDEN, Secret};
use std::path::PathBuf;

/// The settings as they are given, before the password of the URL and the other settings are merged.
#[derive(Debug)]
pub(super) struct Draft {
    options: PostgresOptions,
    in_url: Option<Secret>,
    password_file: Option<PathBuf>,
}

pub(super) const NO_URL: &str = "does not say where the database is: give `url`";

/// Settings that say the same thing.
const PASSWORDS: [&str; 2] = ["password", "password_file"];

pub(super) const SETTINGS: &[Setting<Draft>] = &[
    Setting {
        name: "url",
        give: "postgres://user:password@host:port/database, or keys and values such as `host=… user=… dbname=…`",
        read: |postgres, node| {
            let read = read_url(text(node)?).map_err(|reason| Refused::Hidden(reason.to_string()))?;
            (postgres.options.url, postgres.in_url) = read;
            Ok(())
        },
        // The password is not part of it.
        write: |postgres| Some(&postgres.options.url).filter(|url| !url.is_empty()).and_then(written_text),
    },
    Setting {
        name: "password",
        give: "text",
        read: |postgres, node| put(&mut postgres.options.password, text(node).map(|text| Some(Secret::new(text)))),
        write: |postgres| {
            postgres.options.password.as_ref().filter(|secret| secret.file().is_none()).and_then(written_text)
        },
    },
    Setting {
        name: "password_file",
        give: "the path of a file that holds the password",
        read: |postgres, node| put(&mut postgres.password_file, text(node).map(|path| Some(path.into()))),
        write: |postgres| written_text(postgres.options.password.as_ref()?.file()?.display()),
    },
    Setting {
        name: "connections",
        give: accepted::CONNECTIONS,
        read: |postgres, node| put(&mut postgres.options.connections, number(node)),
        write: |postgres| plain(postgres.options.connections),
    },
    Setting {
        name: "prepared",
        give: "true, or false behind a pooler that knows no prepared statements",
        read: |postgres, node| put(&mut postgres.options.prepared, boolean(node)),
        write: |postgres| plain(postgres.options.prepared),
    },
    Setting {
        name: "create",
        give: "true, or false where `larder postgres setup` makes the tables",
        read: |postgres, node| put(&mut postgres.options.create, boolean(node)),
        write: |postgres| plain(postgres.options.create),
    },
    Setting {
        name: "connect_timeout",
        give: accepted::CONNECT_TIMEOUT,
        read: |postgres, node| put(&mut postgres.options.connect_timeout, duration(node)),
        write: |postgres| time(postgres.options.connect_timeout),
    },
    Setting {
        name: "operation_timeout",
        give: accepted::OPERATION_TIMEOUT,
        read: |postgres, node| put(&mut postgres.options.operation_timeout, duration(node)),
        write: |postgres| time(postgres.options.operation_timeout),
    },
    Setting {
        name: "max_in_flight",
        give: "a number, 0 for no limit",
        read: |postgres, node| put(&mut postgres.options.max_in_flight, number(node)),
        write: |postgres| plain(postgres.options.max_in_flight),
    },
    Setting {
        name: "journal_limit",
        give: accepted::JOURNAL_LIMIT,
        read: |postgres, node| put(&mut postgres.options.journal_limit, number(node)),
        write: |postgres| plain(postgres.options.journal_limit),
    },
    Setting {
        name: "journal_bytes",
        give: accepted::JOURNAL_BYTES,
        read: |postgres, node| {
            let size = usize::try_from(bytes(node)?).map_err(|_| Refused::Shown(""));
            put(&mut postgres.options.journal_bytes, size)
        },
        write: |postgres| written_bytes(postgres.options.journal_bytes as u64),
    },
    Setting {
        name: "shutdown_timeout",
        give: "a duration such as 1s, or 0 for no waiting",
        read: |postgres, node| put(&mut postgres.options.shutdown_timeout, duration(node)),
        write: |postgres| time(postgres.options.shutdown_timeout),
    },
    Setting {
        name: "hints",
        give: accepted::HINTS,
        read: |postgres, node| put(&mut postgres.options.hints, number(node)),
        write: |postgres| plain(postgres.options.hints),
    },
    Setting {
        name: "prune_interval",
        give: "a duration such as 1h, or 0 for never",
        read: |postgres, node| put(&mut postgres.options.prune_interval, duration(node)),
        write: |postgres| time(postgres.options.prune_interval),
    },
];

/// Reads the settings of one connector. They say where the database is only if [`Url::is_empty`] is false.
pub(super) fn read_options(section: &Node, problems: &mut Problems) -> PostgresOptions {
    let mut draft = Draft::of(PostgresOptions::new(Url::default()));
    let given = read(section, SETTINGS, &[BREAKER, KIND], &mut draft, problems);
    if let Some(section) = section.child(BREAKER) {
        draft.options.breaker = breaker::read_options(section, problems);
    }
    let [password, file] = PASSWORDS;
    contradict(&given, password, file, problems);
    if draft.in_url.is_some() {
        PASSWORDS.iter().for_each(|name| contradict(&given, "url", name, problems));
    }
    draft.put_together(&given, section, problems)
}

impl Draft {
    /// The settings, as the effective configuration writes them.
    pub(super) fn of(options: PostgresOptions) -> Self {
        Self { options, in_url: None, password_file: None }
    }

    fn put_together(self, given: &Given, section: &Node, problems: &mut Problems) -> PostgresOptions {
        let Self { mut options, in_url, password_file } = self;
        if !outranks(given.origin("password"), given.origin("url")) {
            options.password = in_url.or(options.password);
        }
        if let (Some(path), Some(origin)) = (password_file, given.origin("password_file")) {
            match Secret::read(&path) {
                Ok(password) => options.password = Some(password),
                Err(reason) => problems.add(origin, format!("names {}, which {reason}", path.display())),
            }
        }
        options.examine(&mut |error| {
            // `breaker.rs` reports the options of the breaker.
            if !error.option().starts_with("breaker.") {
                Place { section, given, inherited: None }.report(&error, problems);
            }
        });
        options
    }
}

/// Whether the password is the text that larder prints in place of a password.
pub(super) fn hidden(postgres: &PostgresOptions) -> bool {
    postgres.password.as_ref().is_some_and(|password| password.expose() == HIDDEN)
}
