//! Translates Zitadel's `Caches:` block into larder's settings. Each setting means what it means in Zitadel, or a note says what larder
//! does instead.
//!
//! The block becomes the tree that larder's own file would give, and is read like any other. Each value keeps its place in Zitadel's
//! file. Names are matched without regard to case, as Zitadel does. Settings that are not given have Zitadel's defaults, because Zitadel
//! merges them into every file. The circuit breaker has these defaults only if its block is given.
//!
//! # Durations
//!
//! Zitadel takes a number without a unit for nanoseconds, which nobody means. Such a number is refused, except for 0 and negative
//! numbers. What these mean depends on the setting: a negative time-out or age means none, and a negative back-off means no retry.

mod names;
mod settings;
mod translation;
mod values;

use super::connectors::Disabled;
use super::environment::Environment;
use super::error::Problems;
use super::note::Note;
use super::tree::{Node, Origin, Value, shown_name, shown_path};
use names::{canonical, variables};
use translation::Translation;

/// Zitadel's block, if this is Zitadel's file: a section `Caches`, in any case. The name `caches`, all in lower case, is larder's own
/// section, unless it contains `Connectors` with a mapping named like one of Zitadel's: no cache of larder's contains mappings.
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

/// If `root` is Zitadel's file, translates it, with Zitadel's own environment variables over it. Returns the connectors that are
/// switched off. `None`: this is not Zitadel's file.
pub(super) fn translate(
    root: &mut Node,
    environment: &Environment,
    problems: &mut Problems,
    notes: &mut Vec<Note>,
) -> Option<Vec<Disabled>> {
    let block = block(root)?;
    let mut block = canonical(block, problems);
    beside(root, &block, problems, notes);
    variables(&mut block, environment, problems);
    let mut translation = Translation { ours: Node::empty(Origin::default()), problems, notes };
    let disabled = translation.connectors(&block);
    for (name, cache) in block.children().iter().filter(|(name, _)| name != "Connectors") {
        translation.cache(name, cache);
    }
    *root = translation.ours;
    Some(disabled)
}

/// Refuses sections of larder's own file beside Zitadel's block, and adds a note that the other sections are not read.
fn beside(root: &Node, block: &Node, problems: &mut Problems, notes: &mut Vec<Note>) {
    let mut others = Vec::new();
    for (name, other) in root.children().iter().filter(|(_, other)| other.origin != block.origin) {
        if ["connectors", "feed", "defaults", "caches"].contains(&name.to_ascii_lowercase().as_str()) {
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
