//! Environment variables, which override the file. A name is `LARDER_` and the path of the setting in upper case, joined by `_`.
//!
//! A name is matched against the settings that exist, so underscores within the name of a setting are allowed. A variable that begins
//! with `LARDER_CONNECTORS_`, `LARDER_FEED_`, `LARDER_DEFAULTS_` or `LARDER_CACHES_` and names no setting is an error. All other variables
//! (`LARDER_SERVERS`) are ignored. An empty variable counts as not set. The sources of a feed are lists, which no variable can give.
//!
//! A variable names a connector, a feed or a cache of the file, whatever the case and the separators, or a new one. A new connector also needs a
//! variable for its kind: `LARDER_CONNECTORS_SESSIONS_KIND`.

use super::connectors::{self, KIND};
use super::error::Problems;
use super::redis::{ALTERNATIVES, says};
use super::sentinel::{PLACE, SENTINEL};
use super::tls::TLS;
use super::tree::{Node, Origin, Value};
use crate::caches::ConnectorKind;
use crate::connector::postgres::options::Url as DatabaseUrl;
use crate::connector::redis::options::Url;
use crate::nearest::nearest;
use std::ffi::{OsStr, OsString};

/// The environment variables, without the empty ones and those whose names are not UTF-8.
#[derive(Debug, Default)]
pub(super) struct Environment(Vec<(String, OsString)>);

impl Environment {
    pub(super) fn new<K: AsRef<OsStr>, V: AsRef<OsStr>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut found: Vec<(String, OsString)> = variables
            .into_iter()
            .filter_map(|(name, value)| {
                let name = name.as_ref().to_str()?;
                let value = value.as_ref();
                (!value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
            })
            .collect();
        // The result must not depend on the order in which the process gets its variables.
        found.sort();
        Self(found)
    }

    /// The variables whose names begin with `prefix`: the rest of the name, the whole name, and the value. A value that is not UTF-8 is
    /// a problem.
    pub(super) fn beginning(&self, prefix: &str, problems: &mut Problems) -> Vec<(String, String, String)> {
        let mut found = Vec::new();
        for (name, value) in &self.0 {
            let Some(rest) = name.strip_prefix(prefix) else { continue };
            match value.to_str() {
                Some(value) => found.push((rest.to_owned(), name.clone(), value.to_owned())),
                None => problems.add(&variable(name, &[]), "is not UTF-8 text"),
            }
        }
        found
    }
}

pub(super) fn variable(name: &str, path: &[&str]) -> Origin {
    Origin { path: path.iter().map(|name| (*name).to_owned()).collect(), variable: Some(name.to_owned()) }
}

pub(super) fn node(name: &str, path: &[&str], value: &str) -> Node {
    Node { origin: variable(name, path), value: Value::Text(value.to_owned()) }
}

/// Puts the variables into `root`, in the places of the settings that they name.
pub(super) fn overlay(root: &mut Node, environment: &Environment, problems: &mut Problems) {
    overlay_connectors(root, environment, problems);
    for (rest, name, value) in environment.beginning("LARDER_DEFAULTS_", problems) {
        let settings = super::cache::SETTINGS.iter().map(|setting| setting.name);
        match settings.clone().find(|setting| upper(&[setting]) == rest) {
            Some(setting) => put(root, &["defaults", setting], &name, &value),
            None => {
                let known: Vec<String> = settings.map(|setting| format!("DEFAULTS_{}", upper(&[setting]))).collect();
                problems.add(&variable(&name, &[]), no_setting(&format!("DEFAULTS_{rest}"), &known));
            }
        }
    }
    for (rest, name, value) in environment.beginning("LARDER_FEED_", problems) {
        match named(root, "feed", super::feed::SETTINGS.iter().map(|setting| setting.name), &rest) {
            Some((feed, setting)) => put(root, &["feed", &feed, setting], &name, &value),
            None => {
                let settings = super::feed::SETTINGS.iter().map(|setting| format!("_{}", upper(&[setting.name])));
                let settings = settings.collect::<Vec<_>>().join(" or ");
                let text = format!(
                    "names no setting of a feed: LARDER_FEED_, the feed, and {settings}; sources are given in a file"
                );
                problems.add(&variable(&name, &[]), text);
            }
        }
    }
    for (rest, name, value) in environment.beginning("LARDER_CACHES_", problems) {
        match named(root, "caches", super::cache::SETTINGS.iter().map(|setting| setting.name), &rest) {
            Some((cache, setting)) => put(root, &["caches", &cache, setting], &name, &value),
            None => {
                let settings = super::cache::SETTINGS.iter().map(|setting| format!("_{}", upper(&[setting.name])));
                let text = format!(
                    "names no setting of a cache: LARDER_CACHES_, the cache, and one of {}",
                    settings.collect::<Vec<_>>().join(", ")
                );
                problems.add(&variable(&name, &[]), text);
            }
        }
    }
}

fn overlay_connectors(root: &mut Node, environment: &Environment, problems: &mut Problems) {
    let variables = environment.beginning("LARDER_CONNECTORS_", problems);
    let (kinds, others): (Vec<_>, Vec<_>) =
        variables.into_iter().partition(|(rest, _, _)| rest.ends_with(&format!("_{}", upper(&[KIND]))));
    // The kinds come first: they decide which settings the other variables may name.
    for (rest, name, value) in kinds {
        let connector = rest.strip_suffix(&format!("_{}", upper(&[KIND]))).unwrap_or_default();
        if connector.is_empty() {
            problems.add(&variable(&name, &[]), "names no setting");
            continue;
        }
        let known = known(root).into_iter().map(|(known, _)| known).find(|known| is_called(connector, known));
        let connector = known.unwrap_or_else(|| connector.to_ascii_lowercase());
        put(root, &["connectors", &connector, KIND], &name, &value);
    }
    let known = known(root);
    for (rest, name, value) in others {
        let found = known.iter().find_map(|(connector, kind)| {
            let path = connectors::settings(*kind).into_iter().find(|path| {
                let suffix = format!("_{}", upper(path));
                rest.strip_suffix(&suffix).is_some_and(|before| is_called(before, connector))
            })?;
            Some((connector, path))
        });
        match found {
            Some((connector, setting)) => {
                let path = [&["connectors", connector.as_str()], &setting[..]].concat();
                instead(root, &path, &value);
                if !is_said(root, &path, &value) {
                    put(root, &path, &name, &value);
                }
            }
            None => problems.add(&variable(&name, &[]), no_setting_of_a_connector(&rest, &known)),
        }
    }
}

/// The connectors that are given, and always those that are named after their kinds; with their kinds, as far as these are known.
fn known(root: &Node) -> Vec<(String, Option<ConnectorKind>)> {
    let given = root.child("connectors").map(Node::children).unwrap_or_default();
    let mut known: Vec<_> = given.iter().map(|(name, node)| (name.clone(), connectors::kind_of(name, node))).collect();
    for kind in ConnectorKind::NAMES {
        if !known.iter().any(|(name, _)| is_called(kind.name(), name)) {
            known.push((kind.name().to_owned(), Some(kind)));
        }
    }
    known
}

fn no_setting_of_a_connector(rest: &str, known: &[(String, Option<ConnectorKind>)]) -> String {
    let mut names = Vec::new();
    for (connector, kind) in known {
        let connector = upper(&[connector.as_str()]).replace(['-', '.'], "_");
        let settings = connectors::settings(*kind);
        names.extend(settings.iter().map(|path| format!("CONNECTORS_{connector}_{}", upper(path))));
    }
    let asked = format!("CONNECTORS_{rest}");
    let is_setting = connectors::settings(None).iter().any(|path| rest.ends_with(&format!("_{}", upper(path))));
    match no_setting(&asked, &names) {
        text if is_setting && !text.ends_with('?') => {
            format!("{text} of a connector that is there: a new one needs its kind, as LARDER_CONNECTORS_<NAME>_KIND")
        }
        text => text,
    }
}

fn no_setting(asked: &str, known: &[String]) -> String {
    let near = nearest(asked, known.iter().map(String::as_str));
    near.map_or_else(|| "names no setting".to_owned(), |near| format!("names no setting; did you mean LARDER_{near}?"))
}

fn put(root: &mut Node, path: &[&str], name: &str, value: &str) {
    root.insert(path, node(name, path, value));
}

/// Removes what the file says and this variable replaces: the alternatives to its setting and, for a URL, what the URL says as well.
fn instead(root: &mut Node, path: &[&str], value: &str) {
    if let [connectors @ .., TLS, _] = path {
        // `tls: true` becomes a section, for the setting to stand in.
        root.remove(connectors, &|name, node| name == TLS && !matches!(node.value, Value::Map(_)));
    }
    let [at @ .., setting] = path else { return };
    let of_file = |node: &Node| node.origin.variable.is_none();
    let url = Url::parse(value).ok().filter(|_| *setting == "url");
    if let Some(url) = &url {
        let without_tls = |node: &Node| url.tls.is_some() && !matches!(node.value, Value::Map(_));
        root.remove(at, &|name, node| of_file(node) && (says(url, name) || (name == TLS && without_tls(node))));
    }
    if let ("url", Ok((_, Some(_)))) = (*setting, DatabaseUrl::parse(value)) {
        root.remove(at, &|name, node| name.starts_with("password") && of_file(node));
    }
    for alternatives in ALTERNATIVES.iter().filter(|alternatives| alternatives.contains(setting)) {
        root.remove(at, &|name, node| alternatives.contains(&name) && of_file(node));
    }
    // Sentinels take the place of an address, and an address that of Sentinels.
    let [place, _] = &ALTERNATIVES;
    match path {
        [at @ .., SENTINEL, setting] if PLACE.contains(setting) => {
            root.remove(at, &|name, node| place.contains(&name) && of_file(node));
        }
        _ if url.as_ref().is_some_and(|url| url.sentinel.is_some()) => {
            root.remove(&[at, &[SENTINEL][..]].concat(), &|name, node| PLACE.contains(&name) && of_file(node));
        }
        _ if place.contains(setting) => {
            let all_of_file = |node: &Node| node.children().iter().all(|(_, child)| of_file(child));
            root.remove(at, &|name, node| name == SENTINEL && all_of_file(node));
        }
        _ => {}
    }
}

/// Whether a section says already what this variable says: that there is TLS.
fn is_said(root: &Node, path: &[&str], value: &str) -> bool {
    let section = path.iter().try_fold(root, |node, name| node.child(name));
    path.last() == Some(&TLS)
        && value.trim() == "true"
        && matches!(section.map(|node| &node.value), Some(Value::Map(_)))
}

/// The feed or the cache, and its setting, that a variable names.
fn named(
    root: &Node,
    section: &str,
    settings: impl Iterator<Item = &'static str>,
    rest: &str,
) -> Option<(String, &'static str)> {
    let (setting, name) = settings
        .filter_map(|setting| Some((setting, rest.strip_suffix(&upper(&[setting]))?.strip_suffix('_')?)))
        .find(|(_, name)| !name.is_empty())?;
    let known = root.child(section).map(Node::children).unwrap_or_default().iter().map(|(known, _)| known);
    let known = known.into_iter().find(|known| is_called(name, known)).cloned();
    Some((known.unwrap_or_else(|| name.to_ascii_lowercase()), setting))
}

/// Whether `said`, a part of a variable's name, means the connector, feed or cache `name`.
fn is_called(said: &str, name: &str) -> bool {
    let fold = |name: &str| {
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect::<String>()
    };
    !said.is_empty() && fold(said) == fold(name)
}

fn upper(path: &[&str]) -> String {
    path.join("_").to_ascii_uppercase()
}
