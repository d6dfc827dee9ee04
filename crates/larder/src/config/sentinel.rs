//! Sentinels of a redis connector: a section, whose `master` and `hosts` a URL can give as well. Section and URL together say each thing
//! once.

use super::error::Problems;
use super::setting::{
    Given, Refused, Setting, Written, boolean, contradict, duration, named, plain, put, read, text, text_or_texts,
    time, written_text,
};
use super::tls::{self, TLS};
use super::tree::{Node, Value};
use crate::connector::redis::options::sentinel::{PORT, accepted};
use crate::connector::redis::options::{Address, SentinelOptions, Url};
use crate::connector::secret::Secret;
use std::path::Path;

/// The section of a redis connector.
pub(super) const SENTINEL: &str = "sentinel";

/// The settings that say where the master is.
pub(super) const PLACE: [&str; 2] = [MASTER, HOSTS];

const MASTER: &str = "master";
const HOSTS: &str = "hosts";

pub(super) const SETTINGS: &[Setting<SentinelOptions>] = &[
    Setting {
        name: MASTER,
        give: accepted::MASTER,
        read: |sentinel, node| put(&mut sentinel.master, text(node).map(str::to_owned)),
        write: |sentinel| written_text(&sentinel.master),
    },
    Setting {
        name: HOSTS,
        give: "the Sentinels, each as host:port",
        read: |sentinel, node| {
            let texts = text_or_texts(node)?;
            // A variable gives them all as one text.
            let hosts = texts.iter().flat_map(|text| text.split(','));
            let hosts = hosts.map(|host| Address::parse_with(host.trim(), PORT)).collect::<Option<Vec<_>>>();
            // Not shown: it may be a URL with a password, given here by mistake.
            put(
                &mut sentinel.hosts,
                hosts.ok_or_else(|| Refused::Hidden("has one that is no host and port".to_owned())),
            )
        },
        write: |sentinel| Some(Written::Texts(sentinel.hosts.iter().map(ToString::to_string).collect())),
    },
    Setting {
        name: "username",
        give: "text",
        read: |sentinel, node| put(&mut sentinel.username, text(node).map(|name| Some(name.to_owned()))),
        write: |sentinel| sentinel.username.as_ref().and_then(written_text),
    },
    Setting {
        name: "password",
        give: "text",
        read: |sentinel, node| put(&mut sentinel.password, text(node).map(|text| Some(Secret::new(text)))),
        write: |sentinel| sentinel.password.as_ref().filter(|secret| secret.file().is_none()).and_then(written_text),
    },
    Setting {
        name: "password_file",
        give: "the path of a file that holds the password",
        read: |sentinel, node| {
            let path = text(node)?;
            let password = Secret::read(Path::new(path)).map(Some);
            put(
                &mut sentinel.password,
                password.map_err(|reason| Refused::Hidden(format!("names {path}, which {reason}"))),
            )
        },
        write: |sentinel| written_text(sentinel.password.as_ref()?.file()?.display()),
    },
    Setting {
        name: "strict",
        give: "true or false",
        read: |sentinel, node| put(&mut sentinel.strict, boolean(node)),
        write: |sentinel| plain(sentinel.strict),
    },
    Setting {
        name: "grace",
        give: accepted::GRACE,
        read: |sentinel, node| put(&mut sentinel.grace, duration(node)),
        write: |sentinel| time(sentinel.grace),
    },
];

/// What the section and the URL say. `of_connector` are the settings beside the section. `None`: neither names Sentinels, or what they say is
/// not enough, which is reported.
pub(super) fn read_options(
    section: Option<&Node>,
    url: Option<&Url>,
    of_connector: &Given,
    problems: &mut Problems,
) -> Option<SentinelOptions> {
    let in_url = url.and_then(|url| url.sentinel.clone());
    let Some(section) = section else { return in_url };
    for name in ["url", "address", "socket"] {
        if let Some(origin) = of_connector.origin(name).filter(|_| name != "url" || in_url.is_none()) {
            problems.add(&section.origin, format!("contradicts {}: give one of the two", named(origin)));
        }
    }
    let mut options = SentinelOptions::new("");
    let given = read(section, SETTINGS, &[TLS], &mut options, problems);
    if !matches!(section.value, Value::Map(_)) {
        return None;
    }
    contradict(&given, "password", "password_file", problems);
    options.tls = tls::read_options(section.child(TLS), in_url.as_ref().map(|url| url.tls.clone()), problems);
    let Some(in_url) = in_url else {
        for setting in SETTINGS.iter().filter(|setting| PLACE.contains(&setting.name)) {
            if section.child(setting.name).is_none() {
                problems.add(&section.origin, format!("has no `{}`: give {}", setting.name, setting.give));
            }
        }
        return Some(options).filter(|_| PLACE.iter().all(|name| given.origin(name).is_some()));
    };
    let says_twice = |name: &&str| match *name {
        "username" => in_url.username.is_some(),
        "password" | "password_file" => in_url.password.is_some(),
        name => PLACE.contains(&name),
    };
    for name in [MASTER, HOSTS, "username", "password", "password_file"].into_iter().filter(says_twice) {
        if let Some(origin) = given.origin(name) {
            problems.add(origin, "contradicts the URL, which says it as well: give one of the two");
        }
    }
    Some(SentinelOptions {
        master: in_url.master,
        hosts: in_url.hosts,
        username: options.username.or(in_url.username),
        password: options.password.or(in_url.password),
        ..options
    })
}
