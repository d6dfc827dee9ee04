//! What replies mean: the shapes that larder expects, and which kind of trouble an error is.

use super::dial::refuses_certificate;
use crate::connector::redis::options::Address;
use crate::connector::remote::{Trouble, What};
use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        let what = if refuses_certificate(&error) {
            What::Refused
        } else {
            kind_of(error.kind(), error.code(), error.detail(), error.is_unrecoverable_error())
        };
        Self::Error { what, text: discreet(error.to_string()) }
    }
}

/// The text of a server's error as larder may log it, without keys and values. A server repeats the arguments of a command that it
/// does not know, and the key that is forbidden. The text is cut off before these.
fn discreet(mut text: String) -> String {
    let words = text.find(", with args");
    let quotes = text.match_indices(['\'', '`', '"']).map(|(at, _)| at);
    let key = quotes.into_iter().find(|at| text.get(at + 1..).is_some_and(begins_like_a_key));
    if let Some(cut) = words.into_iter().chain(key).min() {
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// Whether the text begins like `prefix:cache:`.
fn begins_like_a_key(text: &str) -> bool {
    let mut parts = text.splitn(3, ':');
    let mut is_name = || parts.next().is_some_and(|part| !part.is_empty() && !part.contains(char::is_whitespace));
    is_name() && is_name() && parts.next().is_some()
}

/// The commands without which nothing works.
const NEEDED_BY_EVERYTHING: [&str; 3] = ["get", "eval", "evalsha"];

/// The command that a server does not know, because it is disabled or renamed there.
fn unknown_command(detail: &str) -> Option<&str> {
    let quoted = detail.strip_prefix("unknown command ")?;
    quoted.strip_prefix(['\'', '`'])?.split(['\'', '`']).next()
}

/// How a server says that the user may not run a command. The command follows in quotes.
const MAY_NOT_RUN: &str = "has no permissions to run the '";

fn kind_of(kind: ErrorKind, code: Option<&str>, detail: Option<&str>, unrecoverable: bool) -> What {
    let detail = detail.unwrap_or_default();
    // For a command that is not allowed within a script, servers send no NOPERM code, only these words. The second is that of Redis 7.0. The third
    // is for a command that is disabled or renamed.
    let forbidden = ["ACL failure in script", "The user executing the script can't", "Unknown Redis command"];
    if forbidden.iter().any(|words| detail.starts_with(words)) {
        return What::Forbidden;
    }
    // A script whose further keys, which it finds by itself, have left the node already.
    if detail.contains("attempted to access a non local key") {
        return What::Moving;
    }
    let without = |command: &str| {
        let everything = NEEDED_BY_EVERYTHING.iter().any(|needed| needed.eq_ignore_ascii_case(command));
        if everything { What::Refused } else { What::Forbidden }
    };
    if let Some(command) = unknown_command(detail) {
        return without(command);
    }
    match code {
        Some("NOPERM") => {
            let command = detail.split_once(MAY_NOT_RUN).and_then(|(_, rest)| rest.split('\'').next());
            return command.map_or(What::Forbidden, without);
        }
        Some("NOAUTH" | "WRONGPASS" | "DENIED") => return What::Refused,
        Some("OOM" | "MISCONF" | "NOREPLICAS") => return What::Full,
        Some("BUSY") => return What::Busy,
        Some("LOADING") => return What::NotServing,
        Some("WRONGTYPE") => return What::WrongType,
        _ => {}
    }
    match kind {
        ErrorKind::Server(kind) => match kind {
            ServerErrorKind::BusyLoading | ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown => {
                What::NotServing
            }
            ServerErrorKind::Moved => What::Moved,
            // Larder never answers with ASKING: a script may find the clock on one node and the object on the other.
            ServerErrorKind::TryAgain | ServerErrorKind::Ask => What::Moving,
            ServerErrorKind::ReadOnly => What::ReadOnly,
            ServerErrorKind::NoScript => What::NoScript,
            ServerErrorKind::NoPerm => What::Forbidden,
            _ => What::Fault,
        },
        ErrorKind::AuthenticationFailed => What::Refused,
        ErrorKind::Io | ErrorKind::Parse => What::Broken,
        _ if unrecoverable => What::Broken,
        _ => What::Fault,
    }
}

/// Where a key is now, as an error says that is of the kind [`What::Moved`].
pub(crate) fn moved_to(trouble: &Trouble) -> Option<Address> {
    match trouble {
        // The slot's number, and host and port.
        Trouble::Error { what: What::Moved, text } => Address::parse(text.split_whitespace().next_back()?),
        _ => None,
    }
}

/// A reply of exactly `N` non-negative numbers.
pub(crate) fn numbers<const N: usize>(reply: &Value) -> Option<[u64; N]> {
    let Value::Array(items) = reply else { return None };
    let numbers: Vec<u64> = items
        .iter()
        .filter_map(|item| match item {
            Value::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        })
        .collect();
    numbers.try_into().ok()
}

pub(crate) fn bytes(reply: Value) -> Option<Vec<u8>> {
    match reply {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

pub(crate) fn unexpected(what: &str) -> Trouble {
    Trouble::Error { what: What::Fault, text: format!("the server's reply to {what} has not the expected shape") }
}

pub(crate) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The reply to a command that larder can do without. `None`: the server does not know the command, or does not allow it.
pub(crate) fn tolerated(reply: Result<Value, Trouble>) -> Result<Option<Value>, Trouble> {
    match reply {
        Ok(value) => Ok(Some(value)),
        Err(trouble) => match trouble.what() {
            Some(What::Fault | What::Refused | What::Forbidden) => Ok(None),
            _ => Err(trouble),
        },
    }
}

pub(crate) fn text(value: Value) -> Option<String> {
    match value {
        Value::VerbatimString { text, .. } => Some(text),
        other => bytes(other).and_then(|bytes| String::from_utf8(bytes).ok()),
    }
}

pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The first error among the replies that says something about the server or this user, and not only about its command.
pub(crate) fn grave(replies: &[Value]) -> Option<Trouble> {
    let errors = replies.iter().filter_map(|reply| match reply {
        Value::ServerError(error) => Some(Trouble::from(RedisError::from(error.clone()))),
        _ => None,
    });
    errors.into_iter().find(|trouble| !trouble.is_of_its_command())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_error_is_judged_by_its_code() {
        let extension = ErrorKind::Extension;
        assert_eq!(kind_of(extension, Some("OOM"), None, false), What::Full);
        assert_eq!(kind_of(extension, Some("MISCONF"), None, false), What::Full);
        assert_eq!(kind_of(extension, Some("NOAUTH"), None, false), What::Refused);
        assert_eq!(kind_of(extension, Some("WRONGTYPE"), None, false), What::WrongType);
        assert_eq!(
            kind_of(ErrorKind::Server(ServerErrorKind::NoScript), Some("NOSCRIPT"), None, false),
            What::NoScript
        );
        assert_eq!(
            kind_of(ErrorKind::Server(ServerErrorKind::BusyLoading), Some("LOADING"), None, false),
            What::NotServing
        );
        assert_eq!(
            kind_of(ErrorKind::Server(ServerErrorKind::ReadOnly), Some("READONLY"), None, false),
            What::ReadOnly
        );
        assert_eq!(kind_of(ErrorKind::Io, None, None, true), What::Broken);
        assert_eq!(kind_of(ErrorKind::Parse, None, None, true), What::Broken);
        let response = ErrorKind::Server(ServerErrorKind::ResponseError);
        let within_a_script = "ACL failure in script: this user has no permissions to access one of the keys";
        assert_eq!(kind_of(response, Some("ERR"), Some(within_a_script), false), What::Forbidden);
        assert_eq!(kind_of(extension, Some("DENIED"), None, false), What::Refused, "protected mode");
    }

    #[test]
    fn a_right_that_is_missing_is_a_refusal_where_everything_needs_it() {
        let noperm = ErrorKind::Server(ServerErrorKind::NoPerm);
        let judged = |detail: &str| kind_of(noperm, Some("NOPERM"), Some(detail), false);
        assert_eq!(judged("this user has no permissions to run the 'get' command"), What::Refused);
        assert_eq!(judged("User larder has no permissions to run the 'evalsha' command"), What::Refused);
        assert_eq!(judged("User larder has no permissions to run the 'scan' command"), What::Forbidden);
        assert_eq!(judged("this user has no permissions to run the 'getrange' command"), What::Forbidden);
        let key = "this user has no permissions to access one of the keys used as arguments";
        assert_eq!(judged(key), What::Forbidden);
        assert_eq!(judged("No permissions to access a key"), What::Forbidden);
        assert_eq!(kind_of(noperm, Some("NOPERM"), None, false), What::Forbidden);
    }

    #[test]
    fn a_slow_script_of_somebody_else_is_told_from_a_server_whose_data_is_being_replaced() {
        let (busy, loading) = (ErrorKind::Extension, ErrorKind::Server(ServerErrorKind::BusyLoading));
        let running = "Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
        assert_eq!(kind_of(busy, Some("BUSY"), Some(running), false), What::Busy);
        assert_eq!(kind_of(loading, Some("LOADING"), None, false), What::NotServing);
    }

    #[test]
    fn what_a_server_repeats_of_our_keys_is_left_out() {
        let said = |text: &str| discreet(text.to_owned());
        let plain =
            "MISCONF Redis is configured to save, see 'stop-writes-on-bgsave-error'. script: f00d, on @user_script:1.";
        assert_eq!(said(plain), plain);
        assert_eq!(said("unknown command 'GET', with args beginning with: 'x' "), "unknown command 'GET'…");
        assert_eq!(said("unknown command `GET`, with args beginning with: `l:i:c`, "), "unknown command `GET`…");
        assert_eq!(said("no permission for the 'l:i:o1:it's' key, nor x"), "no permission for the …");
        assert_eq!(said("it's the 'l:i:o1:private' key"), "it's the …");
        assert_eq!(said("an open 'l:i:o1:private"), "an open …");
    }
}
