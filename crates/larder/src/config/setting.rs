//! Settings as rows of a table: the name, what is accepted, how the value is read, how it is written. A row turns a text into a value.
//! The options check whether the value can be used (`crate::option_error`). This module reports the result at the place in the file.
//!
//! Reading, the names of environment variables, the suggestions for misspelt names and the effective configuration all use the same
//! rows. So no setting can be missing in one of them.

use super::error::Problems;
use super::size;
use super::tree::{Node, Origin, Value, shown_path};
use crate::duration;
use crate::nearest::nearest;
use crate::option_error::OptionError;
use std::time::Duration;

/// One setting of a section that is read into a `T`.
pub(super) struct Setting<T: 'static> {
    pub(super) name: &'static str,
    /// What an error says to give.
    pub(super) give: &'static str,
    pub(super) read: fn(&mut T, &Node) -> Result<(), Refused>,
    /// Its value in the effective configuration. `None`: the setting is left out.
    pub(super) write: fn(&T) -> Option<Written>,
}

/// Why a value was not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// The error shows the value, and then this text.
    Shown(&'static str),
    /// The error does not show the value. This text follows the path.
    Hidden(String),
}

/// A value in the effective configuration.
#[derive(Debug)]
pub(super) enum Written {
    /// Text that needs no quotes in YAML.
    Plain(String),
    /// Text that may need quotes.
    Text(String),
    /// A list of texts that may need quotes.
    Texts(Vec<String>),
}

/// Which settings of a section were given, and where.
#[derive(Debug, Default)]
pub(super) struct Given(Vec<(&'static str, Origin)>);

impl Given {
    pub(super) fn origin(&self, name: &str) -> Option<&Origin> {
        self.0.iter().find(|(given, _)| *given == name).map(|(_, origin)| origin)
    }
}

/// Where the options of a section were given.
pub(super) struct Place<'a> {
    pub(super) section: &'a Node,
    pub(super) given: &'a Given,
    /// The section from which missing settings are inherited. What is wrong with these is reported there.
    pub(super) inherited: Option<&'a Origin>,
}

impl Place<'_> {
    /// Reports an option that cannot be used, where it was given.
    pub(super) fn report(&self, error: &OptionError, problems: &mut Problems) {
        let name = error.option();
        let here = |name: &str| self.section.origin.child(name);
        let path = |name: &str| match (self.given.origin(name), self.inherited) {
            (Some(origin), _) => shown_path(&origin.path),
            (None, Some(inherited)) => shown_path(&inherited.child(name).path),
            (None, None) => shown_path(&here(name).path),
        };
        let other = error.other();
        // A contradiction is reported at the first of the two options, or at the second if only the second was given here.
        let (origin, against) = match (self.given.origin(name), other.and_then(|other| self.given.origin(other))) {
            (Some(origin), _) => (origin.clone(), other),
            (None, Some(origin)) => (origin.clone(), Some(name)),
            (None, None) if self.inherited.is_none() => (here(name), other),
            (None, None) => return,
        };
        let value = self.section.child(name).filter(|_| self.given.origin(name).is_some()).map(Node::shown);
        problems.add(&origin, error.after_name(value.as_deref(), against.map(path).as_deref()));
    }
}

/// Reads the settings of one section into `target`. `nested` names the sections and settings in it that the caller reads.
pub(super) fn read<T>(
    section: &Node,
    settings: &'static [Setting<T>],
    nested: &[&'static str],
    target: &mut T,
    problems: &mut Problems,
) -> Given {
    let mut given = Given::default();
    let names: Vec<&'static str> = settings.iter().map(|setting| setting.name).chain(nested.iter().copied()).collect();
    match &section.value {
        Value::Nothing | Value::Map(_) => {}
        _ => problems
            .add(&section.origin, format!("is {}: give a mapping of settings ({})", section.kind(), names.join(", "))),
    }
    for (name, node) in section.children() {
        let Some(setting) = settings.iter().find(|setting| setting.name == name) else {
            if !nested.contains(&name.as_str()) {
                problems.add(&node.origin, unknown(name, &names));
            }
            continue;
        };
        if node.is_nothing() {
            continue;
        }
        match (setting.read)(target, node) {
            Ok(()) => given.0.push((setting.name, node.origin.clone())),
            Err(Refused::Shown(reason)) => {
                problems.add(&node.origin, format!("is {}{reason}: give {}", node.shown(), setting.give));
            }
            Err(Refused::Hidden(reason)) => problems.add(&node.origin, format!("{reason}: give {}", setting.give)),
        }
    }
    given
}

/// Reports two settings that were both given although at most one may be. A variable outranks a file.
pub(super) fn contradict(given: &Given, first: &str, second: &str, problems: &mut Problems) {
    if let (Some(first), Some(second)) = (given.origin(first), given.origin(second))
        && !outranks(Some(second), Some(first))
    {
        problems.add(second, format!("contradicts {}: give one of the two", named(first)));
    }
}

/// Whether `first` comes from a variable and `second` from the file.
pub(super) fn outranks(first: Option<&Origin>, second: Option<&Origin>) -> bool {
    let variable = |origin: Option<&Origin>| origin.map(|origin| origin.variable.is_some());
    variable(first) == Some(true) && variable(second) == Some(false)
}

/// The setting that was given there, as an error names it.
pub(super) fn named(origin: &Origin) -> String {
    match &origin.variable {
        Some(variable) => format!("the environment variable {variable}"),
        None => format!("`{}`", shown_path(&origin.path)),
    }
}

/// The error for a name that is no setting.
pub(super) fn unknown(name: &str, accepted: &[&str]) -> String {
    let near = nearest(name, accepted.iter().copied());
    let elsewhere = || super::known().into_iter().find(|path| path.last() == Some(&name)).map(|path| path.join("."));
    let hint = match near {
        Some(near) => format!("; did you mean `{near}`?"),
        None => elsewhere().map(|path| format!("; `{path}` is one")).unwrap_or_default(),
    };
    let end = if hint.ends_with('?') { "" } else { "." };
    format!("is no setting{hint}{end} Accepted here: {}", accepted.join(", "))
}

/// Stores a value, if it could be read.
pub(super) fn put<V>(place: &mut V, read: Result<V, Refused>) -> Result<(), Refused> {
    *place = read?;
    Ok(())
}

pub(super) fn text(node: &Node) -> Result<&str, Refused> {
    match &node.value {
        Value::Text(text) if text.trim().is_empty() => Err(Refused::Hidden("is empty".to_owned())),
        Value::Text(text) => Ok(text),
        Value::Integer(_) | Value::Float(_) => {
            Err(Refused::Hidden("is a number, not text (put it in quotes)".to_owned()))
        }
        _ => Err(Refused::Hidden(format!("is {}", node.kind()))),
    }
}

/// A list of texts.
pub(super) fn texts(node: &Node) -> Result<Vec<String>, Refused> {
    match &node.value {
        Value::List(elements) => elements.iter().map(|element| text(element).map(str::to_owned)).collect(),
        _ => Err(Refused::Hidden(format!("is {}", node.kind()))),
    }
}

/// A list of texts, or one text alone.
pub(super) fn text_or_texts(node: &Node) -> Result<Vec<String>, Refused> {
    match &node.value {
        Value::List(_) => texts(node),
        _ => text(node).map(|one| vec![one.to_owned()]),
    }
}

/// A whole number that fits into its type.
pub(super) fn number<N: TryFrom<u64>>(node: &Node) -> Result<N, Refused> {
    let number: Option<u64> = match &node.value {
        Value::Integer(integer) => u64::try_from(*integer).ok(),
        // Environment variables give numbers as text, and so does YAML for `100_000`.
        Value::Text(text) if !text.starts_with(['+', '_']) => text.trim().replace('_', "").parse().ok(),
        _ => None,
    };
    number.and_then(|number| N::try_from(number).ok()).ok_or(Refused::Shown(""))
}

pub(super) fn boolean(node: &Node) -> Result<bool, Refused> {
    let boolean = match &node.value {
        Value::Bool(boolean) => Some(*boolean),
        // Environment variables give text.
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    boolean.ok_or(Refused::Shown(""))
}

/// A ratio. The options check its range.
pub(super) fn ratio(node: &Node) -> Result<f64, Refused> {
    let ratio = match &node.value {
        Value::Integer(integer) => Some(*integer as f64),
        Value::Float(float) => Some(*float),
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    ratio.ok_or(Refused::Shown(""))
}

pub(super) fn duration(node: &Node) -> Result<Duration, Refused> {
    match &node.value {
        Value::Integer(0) => Ok(Duration::ZERO),
        Value::Integer(negative) if *negative < 0 => Err(Refused::Shown(", which is negative")),
        Value::Integer(_) | Value::Float(_) => Err(Refused::Shown(", which has no unit")),
        Value::Text(text) => duration::parse(text).map_err(Refused::Shown),
        _ => Err(Refused::Shown("")),
    }
}

pub(super) fn bytes(node: &Node) -> Result<u64, Refused> {
    let bytes = match &node.value {
        Value::Integer(integer) => u64::try_from(*integer).ok(),
        Value::Text(text) => size::parse(text),
        _ => None,
    };
    bytes.ok_or(Refused::Shown(""))
}

pub(super) fn plain(value: impl ToString) -> Option<Written> {
    Some(Written::Plain(value.to_string()))
}

pub(super) fn time(value: Duration) -> Option<Written> {
    Some(Written::Plain(duration::show(value)))
}

pub(super) fn written_bytes(value: u64) -> Option<Written> {
    Some(Written::Plain(size::show(value)))
}

pub(super) fn written_text(value: impl ToString) -> Option<Written> {
    Some(Written::Text(value.to_string()))
}
