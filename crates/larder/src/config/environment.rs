//! Environment variables over a configuration: `LARDER_` and the path of the setting in upper case, joined by `_`.
//!
//! A name is resolved against the settings that exist, so the underscores within names are no problem. Variables that begin like a
//! setting and are none are errors; all others (`LARDER_SERVERS`) are not ours. An empty variable is as good as none.

use super::address::Url;
use super::error::Problems;
use super::nearest::nearest;
use super::note::Note;
use super::redis::ALTERNATIVES;
use super::tree::{Node, Origin, Value};
use std::ffi::{OsStr, OsString};

/// What the process was started with, as far as it may concern us.
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
        // The order in which a process gets its variables means nothing.
        found.sort();
        Self(found)
    }

    /// The variables that begin with `prefix`: the rest of their names, the whole of it, and their values. Those that are no
    /// text are problems.
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

/// Puts the variables that name settings in their places in `root`.
pub(super) fn overlay(root: &mut Node, environment: &Environment, problems: &mut Problems, notes: &mut Vec<Note>) {
    let settings = super::known();
    let suffixes: Vec<(String, &Vec<&'static str>)> = settings.iter().map(|path| (upper(path), path)).collect();
    for section in ["CONNECTORS_", "DEFAULTS_", "CACHES_"] {
        for (rest, name, value) in environment.beginning(&format!("LARDER_{section}"), problems) {
            let asked = format!("{section}{rest}");
            if asked.starts_with("CONNECTORS_POSTGRES_") {
                notes.push(Note::new(&Origin { path: vec![name], variable: None }, super::NO_POSTGRES));
                continue;
            }
            let path: Option<Vec<String>> = match section {
                "CACHES_" => cache(root, &rest),
                _ => {
                    let found = suffixes.iter().find(|(suffix, _)| *suffix == asked);
                    found.map(|(_, path)| path.iter().map(|name| (*name).to_owned()).collect())
                }
            };
            let Some(path) = path else {
                let known =
                    suffixes.iter().map(|(suffix, _)| suffix.as_str()).filter(|known| known.starts_with(section));
                let text = match (nearest(&asked, known), section) {
                    (_, "CACHES_") => format!(
                        "names no setting of a cache: LARDER_CACHES_, the cache, and one of {}",
                        super::cache::SETTINGS
                            .iter()
                            .map(|s| format!("_{}", s.name.to_uppercase()))
                            .collect::<Vec<_>>()
                            .join(", ")
                    ),
                    (Some(near), _) => format!("names no setting; did you mean LARDER_{near}?"),
                    (None, _) => "names no setting".to_owned(),
                };
                problems.add(&variable(&name, &[]), text);
                continue;
            };
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            instead(root, &path, &value);
            root.insert(&path, node(&name, &path, &value));
        }
    }
}

/// A variable takes the place of what the file says in another way.
fn instead(root: &mut Node, path: &[&str], value: &str) {
    let ["connectors", "redis", setting] = path else { return };
    if let ("url", Ok(url)) = (*setting, Url::parse(value)) {
        root.remove(&["connectors", "redis"], &|name, node| url.says(name) && node.origin.variable.is_none());
    }
    for alternatives in ALTERNATIVES.iter().filter(|alternatives| alternatives.contains(setting)) {
        root.remove(&["connectors", "redis"], &|name, node| {
            alternatives.contains(&name) && node.origin.variable.is_none()
        });
    }
}

/// The path of a cache's setting. The cache is one that the file names, in whatever case and with whatever separators, or a
/// new one.
fn cache(root: &Node, rest: &str) -> Option<Vec<String>> {
    let upper = |name: &str| name.to_ascii_uppercase();
    let settings = super::cache::SETTINGS.iter().map(|setting| setting.name);
    let (setting, name) = settings
        .filter_map(|setting| Some((setting, rest.strip_suffix(&upper(setting))?.strip_suffix('_')?)))
        .find(|(_, name)| !name.is_empty())?;
    let fold = |name: &str| {
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect::<String>()
    };
    let known = root.child("caches").map(Node::children).unwrap_or_default().iter().map(|(known, _)| known);
    let known = known.into_iter().find(|known| fold(known) == fold(name)).cloned();
    Some(vec!["caches".to_owned(), known.unwrap_or_else(|| name.to_ascii_lowercase()), setting.to_owned()])
}

fn upper(path: &[&str]) -> String {
    path.join("_").to_ascii_uppercase()
}
