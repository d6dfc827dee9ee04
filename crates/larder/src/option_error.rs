//! The error for an option that cannot be used, whether a file, an environment variable or code has given it.
//!
//! Each options struct checks itself, in a function `examine` beside its fields. Code that opens something calls `examine` through
//! `validate`. The configuration calls the same function and adds the place in the file. So code and files are bound by the same rules.

use crate::duration;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// An option that cannot be used: its name, what is wrong with its value, and what is accepted.
///
/// No secret is ever part of it.
///
/// ```
/// use larder::{LoadOptions, OptionError, Schema};
/// # use larder::Entry;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, Entry)]
/// # #[entry(cache = "color")]
/// # struct Color { #[key(primary)] name: String }
///
/// let schema = Schema::of::<Color>().loading(LoadOptions::new().jitter(1.5));
/// let error: OptionError = schema.validate().unwrap_err();
/// assert_eq!(error.option(), "jitter");
/// assert_eq!(error.to_string(), "jitter is `1.5`: give a part of the max age from 0 to 1, such as 0.1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionError {
    option: Cow<'static, str>,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    Value {
        shown: String,
        accepted: &'static str,
    },
    /// The value is not shown. The text continues the sentence after the name.
    Hidden(&'static str),
    Contradiction {
        other: &'static str,
        why: String,
    },
}

/// Takes each error that `examine` finds.
pub(crate) type Refuse<'a> = &'a mut dyn FnMut(OptionError);

impl OptionError {
    /// The error for an option whose value cannot be used. `accepted` continues the sentence after "give". Only the beginning of a long
    /// value is shown.
    #[must_use]
    pub fn new(option: &'static str, value: impl fmt::Display, accepted: &'static str) -> Self {
        Self { option: option.into(), problem: Problem::Value { shown: shown(&value.to_string()), accepted } }
    }

    pub(crate) fn duration(option: &'static str, value: Duration, accepted: &'static str) -> Self {
        Self::new(option, duration::show(value), accepted)
    }

    /// Like [`new`](Self::new), for a value that may hold a secret. `wrong` continues the sentence after the name.
    pub(crate) fn hidden(option: &'static str, wrong: &'static str) -> Self {
        Self { option: option.into(), problem: Problem::Hidden(wrong) }
    }

    pub(crate) fn contradiction(option: &'static str, other: &'static str, why: String) -> Self {
        Self { option: option.into(), problem: Problem::Contradiction { other, why } }
    }

    /// The same error for an option whose name is prefixed with `before` in a larger struct.
    pub(crate) fn within(mut self, before: &str) -> Self {
        self.option = format!("{before}{}", self.option).into();
        self
    }

    /// The name of the option. A field of a field has both names with a point between them (`breaker.open`).
    #[must_use]
    pub fn option(&self) -> &str {
        &self.option
    }

    /// The option that this one contradicts.
    #[cfg(any(feature = "yaml", feature = "toml"))]
    pub(crate) fn other(&self) -> Option<&'static str> {
        match &self.problem {
            Problem::Contradiction { other, .. } => Some(other),
            Problem::Value { .. } | Problem::Hidden(_) => None,
        }
    }

    /// The text that continues the sentence after the name. `value` and `other` are the value and the other option as they were written, if
    /// known.
    pub(crate) fn after_name(&self, value: Option<&str>, other: Option<&str>) -> String {
        match &self.problem {
            Problem::Value { shown, accepted } => format!("is {}: give {accepted}", value.unwrap_or(shown)),
            Problem::Hidden(wrong) => (*wrong).to_owned(),
            Problem::Contradiction { other: named, why } => format!("contradicts `{}`: {why}", other.unwrap_or(named)),
        }
    }

    /// The first error that `examine` finds.
    pub(crate) fn first(examine: impl FnOnce(Refuse<'_>)) -> Result<(), Self> {
        let mut first = None;
        examine(&mut |error| {
            first.get_or_insert(error);
        });
        first.map_or(Ok(()), Err)
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.option, self.after_name(None, None))
    }
}

impl std::error::Error for OptionError {}

/// A text as an error shows it: its beginning, with line breaks and other control characters escaped.
pub(crate) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    let more = if text.chars().nth(60).is_some() { "…" } else { "" };
    format!("`{cut}{more}`")
}

/// What [`is_name`] accepts.
pub(crate) const NAME: &str = "1 to 128 letters, digits, `_`, `-` or `.`";

/// Whether this can be a name that is part of keys on a server: the name of a cache or an index, or the prefix of all keys. A colon
/// separates names in a key, so a name has none: no two pairs of names make the same key. A name has no character with a meaning in a
/// search pattern.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// Makes a setter for each named field, to be chained: `Options::new().limit(3).pause(one_second)`.
macro_rules! setters {
    ($($(#[$more:meta])* $field:ident: $type:ty),+ $(,)?) => {$(
        #[doc = concat!("The same options with this [`", stringify!($field), "`](#structfield.", stringify!($field), ").")]
        $(#[$more])*
        #[must_use]
        pub const fn $field(mut self, $field: $type) -> Self {
            self.$field = $field;
            self
        }
    )+};
}

pub(crate) use setters;
