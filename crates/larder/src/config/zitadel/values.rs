//! Zitadel's values, and what they mean in Zitadel: durations, numbers and booleans.

use super::settings::{POOL, Taken};
use crate::config::tree::{Node, Value};
use crate::duration;
use std::time::Duration;

/// A duration as Zitadel understands it.
pub(super) enum Time {
    Negative,
    Zero,
    Some(Duration),
}

pub(super) fn time(node: &Node) -> Result<Time, Taken> {
    let refuse = |reason: &str| Taken::Refuse(format!("is {}{reason}: give a duration such as 1h30m", node.shown()));
    match &node.value {
        Value::Integer(0) => Ok(Time::Zero),
        Value::Integer(integer) if *integer < 0 => Ok(Time::Negative),
        Value::Integer(_) | Value::Float(_) => Err(refuse(", which has no unit")),
        Value::Text(text) => match text.trim().strip_prefix('-') {
            Some("1" | "2") => Ok(Time::Negative),
            Some(rest) => duration::parse(rest).map(|_| Time::Negative).map_err(refuse),
            None => match duration::parse(text).map_err(refuse)? {
                Duration::ZERO => Ok(Time::Zero),
                some => Ok(Time::Some(some)),
            },
        },
        _ => Err(refuse("")),
    }
}

pub(super) fn time_or(node: &Node, taken: impl FnOnce(Time) -> Taken) -> Taken {
    match time(node) {
        Ok(time) => taken(time),
        Err(refused) => refused,
    }
}

/// A duration for which zero and negative values mean never.
pub(super) fn zero_is_never(node: &Node) -> Taken {
    time_or(node, |time| match time {
        Time::Some(_) => Taken::Keep,
        Time::Zero | Time::Negative => Taken::As(Value::Integer(0)),
    })
}

/// A time-out. Zero means the default. A negative value means none, which larder does not have: the default takes its place.
pub(super) fn timeout(node: &Node, default: &str) -> Taken {
    time_or(node, |time| match time {
        Time::Some(_) => Taken::Keep,
        Time::Zero => {
            Taken::AsNote(Value::Text(default.to_owned()), format!("0 is the default, and larder's is {default}"))
        }
        Time::Negative => Taken::AsNote(
            Value::Text(default.to_owned()),
            format!("larder always has a time-out, so that a server that hangs costs little: {default}, its default"),
        ),
    })
}

/// A duration without an effect. A negative value says what larder does anyway, and gets no note.
pub(super) fn pointless_time(node: &Node, instead: &str) -> Taken {
    time_or(node, |time| match time {
        Time::Negative => Taken::Drop,
        _ => Taken::Note(instead.to_owned()),
    })
}

pub(super) fn pool_time(node: &Node) -> Taken {
    time_or(node, |_| Taken::Note(POOL.to_owned()))
}

pub(super) fn pool_number(node: &Node) -> Taken {
    match integer(node) {
        Some(_) => Taken::Note(POOL.to_owned()),
        None => Taken::Refuse(format!("is {}: give a number", node.shown())),
    }
}

pub(super) fn integer(node: &Node) -> Option<i128> {
    match &node.value {
        Value::Integer(integer) => Some(*integer),
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

pub(super) fn truth(node: &Node) -> Option<bool> {
    match &node.value {
        Value::Bool(bool) => Some(*bool),
        Value::Integer(0) => Some(false),
        Value::Integer(1) => Some(true),
        Value::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Some(true),
            "false" | "f" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Only checks the value. Code that needs it calls [`truth`].
pub(super) fn boolean(node: &Node) -> Taken {
    match truth(node) {
        Some(_) => Taken::Drop,
        None => Taken::Refuse(format!("is {}: give true or false", node.shown())),
    }
}

pub(super) fn empty(node: &Node) -> bool {
    matches!(&node.value, Value::Text(text) if text.trim().is_empty())
}

pub(super) fn unless_empty(node: &Node) -> Taken {
    if empty(node) { Taken::Drop } else { Taken::Keep }
}
