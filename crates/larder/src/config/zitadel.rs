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
