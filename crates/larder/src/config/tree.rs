//! A configuration before it means anything: mappings and values, each with where it came from.
//!
//! YAML, TOML and environment variables all become this, so that everything after it exists once.

use crate::option_error;

/// Where a value stands.
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
    /// Nothing, as after a colon with no value: as if the setting were not there.
    Nothing,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    /// No setting is a list, so what is in it does not matter.
    List,
    Map(Vec<(String, Node)>),
}

impl Node {
    pub(super) fn empty(origin: Origin) -> Self {
        Self { origin, value: Value::Map(Vec::new()) }
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self.value, Value::Nothing)
    }

    /// What a mapping holds; nothing for everything else.
    pub(super) fn children(&self) -> &[(String, Node)] {
        match &self.value {
            Value::Map(children) => children,
            _ => &[],
        }
    }

    /// The value of this name that is more than nothing.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.find(|known| known == name)
    }

    pub(super) fn find(&self, is: impl Fn(&str) -> bool) -> Option<&Self> {
        self.children().iter().find(|(name, child)| is(name) && !child.is_nothing()).map(|(_, child)| child)
    }

    /// Puts a value where `path` leads, making mappings on the way. What is in the way and no mapping stays, to be refused
    /// when it is read.
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

    /// Removes those children of the mapping at `path` for which `goes` holds.
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

    /// The value as an error may show it. Never used for what might be a secret.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            Value::Bool(bool) => format!("`{bool}`"),
            Value::Integer(integer) => format!("`{integer}`"),
            Value::Float(float) => format!("`{float}`"),
            Value::Text(text) => option_error::shown(text),
            _ => self.kind().to_owned(),
        }
    }

    /// What kind of value it is.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Nothing => "nothing",
            Value::Bool(_) => "true or false",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// A path as a person reads it. Names are cut where they can be no setting's, because a missing space after a colon makes a
/// name of a password.
pub(super) fn shown_path(path: &[String]) -> String {
    let names: Vec<String> = path.iter().map(|name| shown_name(name)).collect();
    names.join(".")
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
