//! A configuration before it is interpreted: mappings and values, each with its origin.
//!
//! YAML, TOML and environment variables all become this tree, so that the code which interprets it exists once.

use crate::option_error;

/// Where a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// The names that lead to it, as they are written in the file.
    pub(super) path: Vec<String>,
    /// The environment variable that gave it, if one did.
    pub(super) variable: Option<String>,
}

impl Origin {
    pub(super) fn child(&self, name: &str) -> Self {
        let mut path = self.path.clone();
        path.push(name.to_owned());
        Self { path, variable: self.variable.clone() }
    }
}

#[derive(Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

#[derive(Clone)]
pub(super) enum Value {
    /// No value, as after a colon in YAML. It counts as if the setting were absent.
    Nothing,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    /// The name of an element in its path is its place in brackets, counted from 0.
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    pub(super) fn empty(origin: Origin) -> Self {
        Self { origin, value: Value::Map(Vec::new()) }
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self.value, Value::Nothing)
    }

    /// The children of a mapping; no children for any other value.
    pub(super) fn children(&self) -> &[(String, Node)] {
        match &self.value {
            Value::Map(children) => children,
            _ => &[],
        }
    }

    /// The elements of a list; no elements for any other value.
    pub(super) fn elements(&self) -> &[Self] {
        match &self.value {
            Value::List(elements) => elements,
            _ => &[],
        }
    }

    /// The child of this name, unless it has no value.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.find(|known| known == name)
    }

    pub(super) fn find(&self, is: impl Fn(&str) -> bool) -> Option<&Self> {
        self.children().iter().find(|(name, child)| is(name) && !child.is_nothing()).map(|(_, child)| child)
    }

    /// Puts a node at `path`, and makes the mappings that lead there. Where something else than a mapping is in the way, it stays, and
    /// is refused when it is read.
    pub(super) fn insert(&mut self, path: &[&str], node: Self) {
        if self.is_nothing() {
            self.value = Value::Map(Vec::new());
        }
        let (Some((first, rest)), Value::Map(children)) = (path.split_first(), &mut self.value) else { return };
        let place = children.iter().position(|(name, _)| name == first);
        match (place.and_then(|place| children.get_mut(place)), rest.is_empty()) {
            (Some((_, child)), true) => *child = node,
            (Some((_, child)), false) => child.insert(rest, node),
            (None, true) => children.push(((*first).to_owned(), node)),
            (None, false) => {
                let mut child = Self::empty(self.origin.child(first));
                child.insert(rest, node);
                children.push(((*first).to_owned(), child));
            }
        }
    }

    /// Removes the children of the mapping at `path` for which `goes` is true.
    pub(super) fn remove(&mut self, path: &[&str], goes: &dyn Fn(&str, &Self) -> bool) {
        let Value::Map(children) = &mut self.value else { return };
        match path.split_first() {
            None => children.retain(|(name, child)| !goes(name, child)),
            Some((first, rest)) => {
                for (_, child) in children.iter_mut().filter(|(name, _)| name == first) {
                    child.remove(rest, goes);
                }
            }
        }
    }

    /// The value as an error shows it. Never used for a value that may be a secret.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            Value::Bool(bool) => format!("`{bool}`"),
            Value::Integer(integer) => format!("`{integer}`"),
            Value::Float(float) => format!("`{float}`"),
            Value::Text(text) => option_error::shown(text),
            _ => self.kind().to_owned(),
        }
    }

    /// The kind of the value, as an error names it.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Nothing => "nothing",
            Value::Bool(_) => "true or false",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// A path as it is shown. A name is cut at the first character that no setting's name contains: without the space after a colon, the
/// parser takes a password for a part of the name.
pub(super) fn shown_path(path: &[String]) -> String {
    let mut shown = String::new();
    for name in path {
        if place_in_list(name).is_some() {
            shown.push_str(name);
            continue;
        }
        if !shown.is_empty() {
            shown.push('.');
        }
        shown.push_str(&shown_name(name));
    }
    shown
}

/// The name in a path of the element at this place.
pub(super) fn element(place: usize) -> String {
    format!("[{place}]")
}

/// The place that a name of [`element`] says.
pub(super) fn place_in_list(name: &str) -> Option<usize> {
    let digits = name.strip_prefix('[')?.strip_suffix(']')?;
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

pub(super) fn shown_name(name: &str) -> String {
    if name.is_empty() {
        return "\"\"".to_owned();
    }
    let sane = name.chars().take(64).take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let mut shown: String = sane.collect();
    if shown.len() < name.len() {
        shown.push('…');
    }
    shown
}
