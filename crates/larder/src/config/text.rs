//! Reads the text of a configuration, YAML or TOML, into a [tree](super::tree), and finds the lines of settings.
//!
//! No value is ever part of an error: it may be a password.

use super::tree::{Node, Origin, Value, element, place_in_list, shown_name};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The format of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    #[cfg(feature = "yaml")]
    Yaml,
    #[cfg(feature = "toml")]
    Toml,
}

impl Format {
    /// A format that this build can read.
    #[cfg(feature = "yaml")]
    pub(super) const ANY: Self = Self::Yaml;
    #[cfg(not(feature = "yaml"))]
    pub(super) const ANY: Self = Self::Toml;

    pub(super) fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "yaml")]
            Self::Yaml => "YAML",
            #[cfg(feature = "toml")]
            Self::Toml => "TOML",
        }
    }
}

/// Reads a text. The error holds the line, if it is known, and what is wrong.
pub(super) fn parse(text: &str, format: Format) -> Result<Node, (Option<usize>, String)> {
    let root = Place(Origin::default());
    match format {
        #[cfg(feature = "yaml")]
        Format::Yaml if blank(text) => Ok(Node { origin: Origin::default(), value: Value::Nothing }),
        #[cfg(feature = "yaml")]
        Format::Yaml => root.deserialize(serde_norway::Deserializer::from_str(text)).map_err(|error| {
            let mut message = error.to_string();
            let line = error.location().map(|at| {
                let suffix = format!(" at line {} column {}", at.line(), at.column());
                if let Some(short) = message.strip_suffix(&suffix) {
                    message = short.to_owned();
                }
                at.line()
            });
            (line, without_values(&message))
        }),
        #[cfg(feature = "toml")]
        Format::Toml => toml::de::Deserializer::parse(text).and_then(|toml| root.deserialize(toml)).map_err(|error| {
            // Its Display quotes the line, which may hold a password.
            (error.span().map(|span| line_of(text, span.start)), without_values(error.message()))
        }),
    }
}

#[cfg(feature = "yaml")]
/// Whether a text has only comments and empty lines. The parser would report that such a text ended too early.
fn blank(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#'))
}

#[cfg(feature = "toml")]
fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The line of the last name of `path`. It parses the text again, so it is called only to show an error.
pub(super) fn line(text: &str, format: Format, path: &[String]) -> Option<usize> {
    if path.is_empty() {
        return None;
    }
    match format {
        #[cfg(feature = "yaml")]
        Format::Yaml => {
            let error = Locate(path).deserialize(serde_norway::Deserializer::from_str(text)).err()?;
            error.to_string().contains(FOUND).then(|| error.location().map(|at| at.line()))?
        }
        #[cfg(feature = "toml")]
        Format::Toml => {
            let root = toml::de::DeTable::parse(text).ok()?;
            let (first, rest) = path.split_first()?;
            let (key, mut value) = root.get_ref().iter().find(|(key, _)| key.get_ref() == first)?;
            let mut start = key.span().start;
            for name in rest {
                if let (Some(place), Some(list)) = (place_in_list(name), value.get_ref().as_array()) {
                    value = list.get(place)?;
                    start = value.span().start;
                } else {
                    let (key, child) = value.get_ref().as_table()?.iter().find(|(key, _)| key.get_ref() == name)?;
                    (start, value) = (key.span().start, child);
                }
            }
            Some(line_of(text, start))
        }
    }
}

/// Reads a value that has this origin.
struct Place(Origin);

impl<'de> DeserializeSeed<'de> for Place {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let value = deserializer.deserialize_any(ValueVisitor(&self.0))?;
        Ok(Node { origin: self.0, value })
    }
}

struct ValueVisitor<'a>(&'a Origin);

impl<'de> Visitor<'de> for ValueVisitor<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a setting")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Value, E> {
        Ok(Value::List(Vec::new()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(node) = list.next_element_seed(Place(self.0.child(&element(elements.len()))))? {
            elements.push(node);
        }
        Ok(Value::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut children: Vec<(String, Node)> = Vec::new();
        while let Some(name) = map.next_key_seed(Name(&children))? {
            if name == TOML_DATE {
                return map.next_value_seed(Place(self.0.clone())).map(|date| date.value);
            }
            let child = map.next_value_seed(Place(self.0.child(&name)))?;
            children.push((name, child));
        }
        Ok(Value::Map(children))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(ours("a tag (`!…`) has no meaning here"))
    }
}

/// The parser gives a date, which no setting is, as a mapping of this one name to the text of the date.
const TOML_DATE: &str = "$__toml_private_datetime";

/// An error with larder's own text. The parser adds text around it that may hold a password; [`without_values`] cuts that off.
fn ours<E: serde::de::Error>(text: impl fmt::Display) -> E {
    E::custom(format_args!("{OURS}{text}{OURS}"))
}

const OURS: char = '\u{1}';

/// What may be shown of a parser's error.
fn without_values(message: &str) -> String {
    match message.split(OURS).nth(1) {
        Some(ours) => ours.to_owned(),
        None if message.contains("invalid type") || message.contains("invalid value") => {
            "a value is not what its tag (`!!…`) says".to_owned()
        }
        None => message.to_owned(),
    }
}

/// Reads the name of a setting, and refuses a name that is in the mapping already.
struct Name<'a>(&'a [(String, Node)]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Checks the name while it is parsed, so that the parser adds the line to the error.
impl<'de> Visitor<'de> for Name<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a setting")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<String, E> {
        if self.0.iter().any(|(known, _)| known == name) {
            return Err(ours(format_args!("`{}` is given twice", shown_name(name))));
        }
        Ok(name.to_owned())
    }

    fn visit_bool<E: serde::de::Error>(self, name: bool) -> Result<String, E> {
        self.visit_str(&name.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, name: i64) -> Result<String, E> {
        self.visit_str(&name.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, name: u64) -> Result<String, E> {
        self.visit_str(&name.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<String, E> {
        Err(ours(NO_NAME))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<String, E> {
        Err(ours(NO_NAME))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(ours(NO_NAME))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(ours(NO_NAME))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(ours(NO_NAME))
    }
}

const NO_NAME: &str = "the name of a setting must be text";

#[cfg(feature = "yaml")]
/// The error by which [`Locate`] says that it has found the name. The parser adds the line.
const FOUND: &str = "larder: the name stands here";

#[cfg(feature = "yaml")]
/// Fails at the last name of a path, because the parser gives a line only with an error.
struct Locate<'a>(&'a [String]);

#[cfg(feature = "yaml")]
impl<'de> DeserializeSeed<'de> for Locate<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

#[cfg(feature = "yaml")]
impl<'de> Visitor<'de> for Locate<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name of an element is its place, and here the element stands.
        f.write_str(if self.0.is_empty() { FOUND } else { "a mapping, or a list" })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((name, rest)) = self.0.split_first() else { return Err(serde::de::Error::custom(FOUND)) };
        let Some(place) = place_in_list(name) else { return Ok(()) };
        for _ in 0..place {
            if list.next_element::<serde::de::IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        list.next_element_seed(Locate(rest)).map(|_| ())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((name, rest)) = self.0.split_first() else { return Err(serde::de::Error::custom(FOUND)) };
        while let Some(found) = map.next_key_seed(LocateName { name, last: rest.is_empty() })? {
            if found {
                return map.next_value_seed(Locate(rest));
            }
            map.next_value::<serde::de::IgnoredAny>()?;
        }
        Ok(())
    }
}

#[cfg(feature = "yaml")]
struct LocateName<'a> {
    name: &'a str,
    last: bool,
}

#[cfg(feature = "yaml")]
impl<'de> DeserializeSeed<'de> for LocateName<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

#[cfg(feature = "yaml")]
impl Visitor<'_> for LocateName<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<bool, E> {
        match name == self.name {
            true if self.last => Err(E::custom(FOUND)),
            found => Ok(found),
        }
    }
}
