//! Zitadel's names, whatever their case, in a file and in Zitadel's environment variables.

use super::settings::{CACHES, CONNECTORS, Word};
use super::translation::KNOWN;
use crate::config::environment::{self, Environment};
use crate::config::error::Problems;
use crate::config::setting::unknown;
use crate::config::tree::{Node, Value};
use crate::nearest::nearest;

/// The block with the names as Zitadel's documentation writes them.
pub(super) fn canonical(block: &Node, problems: &mut Problems) -> Node {
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

pub(super) fn section(node: &Node, words: &'static [Word], path: &[&'static str], problems: &mut Problems) -> Node {
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
pub(super) fn next(words: &'static [Word], path: &[&str]) -> Vec<&'static str> {
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

pub(super) fn add(whole: &mut Node, name: &str, child: Node, problems: &mut Problems) {
    if whole.children().iter().any(|(known, _)| known == name) {
        problems.add(&child.origin, "is given twice: case makes no difference here");
    } else {
        whole.insert(&[name], child);
    }
}

/// Puts Zitadel's environment variables into the block.
pub(super) fn variables(block: &mut Node, environment: &Environment, problems: &mut Problems) {
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

pub(super) fn cache_variable(block: &Node, rest: &str) -> Option<Vec<String>> {
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
