//! [`Trouble`] out of what the database, or the way to it, says.

use super::tls::{TlsError, explained};
use crate::connector::remote::{Awaited, Trouble, What};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

/// What is missing where larder's tables, or functions, are not there.
pub(crate) const NOT_SET_UP: &[SqlState] =
    &[SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_FUNCTION, SqlState::INVALID_SCHEMA_NAME];

/// The trouble that an error is. Its text has no keys and no values: an error's detail may hold them, and is left out.
pub(crate) fn trouble(error: &Error) -> Trouble {
    let Some(said) = error.as_db_error() else {
        if let Some(text) = of_tls(error) {
            return Trouble::Error { what: What::Refused, text };
        }
        let text =
            std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
        // A reply that cannot be read, or a value that cannot be sent, says nothing of the connection.
        let ours = text.starts_with("error deserializing") || text.starts_with("error serializing");
        return if ours { Trouble::fault(text) } else { Trouble::broken(text) };
    };
    if *said.code() == SqlState::QUERY_CANCELED {
        return Trouble::TimedOut(Awaited::Reply);
    }
    Trouble::Error { what: kind(said.code()), text: text(said) }
}

/// What a person can do about an error of TLS. `None`: it is another error.
fn of_tls(error: &Error) -> Option<String> {
    let cause = std::error::Error::source(error)?;
    if let Some(tls) = cause.downcast_ref::<TlsError>() {
        return Some(tls.to_string());
    }
    if cause.to_string() == "server does not support TLS" {
        return Some("the server does not offer TLS: turn `ssl` on there, or set sslmode=prefer or disable".to_owned());
    }
    // The server has judged the client's certificate only after its own side of the handshake was over.
    let of_socket = cause.downcast_ref::<std::io::Error>()?.get_ref()?;
    of_socket.downcast_ref::<rustls::Error>().map(|tls| explained(tls, "the host"))
}

/// Whether a prepared statement is not there, or another one has its name.
pub(crate) fn is_of_prepared(code: &SqlState) -> bool {
    [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT].contains(code)
}

fn text(said: &DbError) -> String {
    let hint = match said.code() {
        code if NOT_SET_UP.contains(code) => "; have the tables made by `larder postgres setup`",
        code if is_of_prepared(code) => "; behind a pooler that knows no prepared statements set `prepared: false`",
        code if *code == SqlState::INVALID_PASSWORD => "; correct user or password",
        code if *code == SqlState::INVALID_CATALOG_NAME => "; create the database, or correct `dbname`",
        code if *code == SqlState::TOO_MANY_CONNECTIONS => {
            "; lower `connections` of the nodes, or raise `max_connections` or the limit of the role"
        }
        code if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            "; grant what the docs of `larder::connector::postgres` list"
        }
        _ => "",
    };
    format!("{} (SQLSTATE {}){hint}", said.message(), said.code().code())
}

fn kind(code: &SqlState) -> What {
    let (class, _) = code.code().split_at_checked(2).unwrap_or_default();
    match class {
        "08" => return What::Broken,
        "28" => return What::Refused,
        _ => {}
    }
    match *code {
        // A database, or a role, that is not there.
        SqlState::INVALID_CATALOG_NAME => What::Refused,
        SqlState::INSUFFICIENT_PRIVILEGE => What::Forbidden,
        SqlState::ADMIN_SHUTDOWN
        | SqlState::CRASH_SHUTDOWN
        | SqlState::CANNOT_CONNECT_NOW
        | SqlState::TOO_MANY_CONNECTIONS
        | SqlState::DATABASE_DROPPED => What::NotServing,
        SqlState::READ_ONLY_SQL_TRANSACTION => What::ReadOnly,
        SqlState::DISK_FULL => What::Full,
        SqlState::OUT_OF_MEMORY
        | SqlState::LOCK_NOT_AVAILABLE
        | SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::T_R_SERIALIZATION_FAILURE => What::Busy,
        // Of a statement that was prepared before somebody changed the tables, or on another server behind the pooler.
        SqlState::INVALID_SQL_STATEMENT_NAME | SqlState::DUPLICATE_PSTATEMENT | SqlState::FEATURE_NOT_SUPPORTED => {
            What::Broken
        }
        _ => What::Fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_of_the_kind_that_they_are_treated_as() {
        for (code, what) in [
            ("08006", What::Broken),
            ("28P01", What::Refused),
            ("3D000", What::Refused),
            ("57P01", What::NotServing),
            ("57P03", What::NotServing),
            ("53300", What::NotServing),
            ("42501", What::Forbidden),
            ("25006", What::ReadOnly),
            ("53100", What::Full),
            ("40P01", What::Busy),
            ("26000", What::Broken),
            ("22012", What::Fault),
        ] {
            assert_eq!(kind(&SqlState::from_code(code)), what, "{code}");
        }
    }
}
