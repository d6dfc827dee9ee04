//! URLs of servers: `redis://user:password@host:port/database`, `redis+unix:///path?db=database`.

use super::LAST_DATABASE;
use super::address::Address;
use crate::connector::secret::Secret;

/// The parts of a URL. No error shows any of them: they may hold a password.
#[derive(Debug)]
pub(crate) struct Url {
    pub(crate) address: Address,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: Option<u32>,
}

impl Url {
    /// Reads a URL. The error text follows the path of the setting.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const UNREADABLE: &str =
            "is no URL of a server (in a user name or password, write characters other than letters and digits as %XX)";
        let (scheme, rest) = text.trim().split_once("://").ok_or(UNREADABLE)?;
        let unix = match scheme {
            "redis" => false,
            "unix" | "redis+unix" => true,
            "rediss" => return Err("asks for TLS, which this version of larder does not have yet"),
            _ => return Err("has a scheme that is neither redis, redis+unix nor unix"),
        };
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let authority_end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_end);
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        let (username, password) = user.map_or((None, None), |user| {
            user.split_once(':').map_or((Some(user), None), |(username, password)| (Some(username), Some(password)))
        });
        let part = |part: Option<&str>| match part {
            None | Some("") => Ok(None),
            Some(part) => decode(part).map(Some).ok_or(UNREADABLE),
        };
        let number = |text: &str| text.parse().ok().filter(|number| *number <= LAST_DATABASE).ok_or(UNREADABLE);
        let (address, database) = if unix {
            if !host.is_empty() || path.len() < 2 {
                return Err("names no socket: three slashes, as in redis+unix:///run/redis.sock");
            }
            let database = match query.map(|query| query.strip_prefix("db=")) {
                None => None,
                Some(Some(database)) => Some(number(database)?),
                Some(None) => return Err("has a parameter that larder does not know (only `db` is)"),
            };
            (Address::Unix(decode(path).ok_or(UNREADABLE)?.into()), database)
        } else {
            if query.is_some() {
                return Err("has parameters: give them as settings of their own");
            }
            let database = match path {
                "" | "/" => None,
                path => Some(number(path.trim_start_matches('/'))?),
            };
            (Address::parse(host).ok_or(UNREADABLE)?, database)
        };
        Ok(Self { address, username: part(username)?, password: part(password)?.map(Secret::new), database })
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let high = digit()?;
                u8::try_from(high * 16 + digit()?).ok()?
            }
            b'#' => return None,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<String, &'static str> {
        Url::parse(text).map(|url| {
            let password = url.password.as_ref().map(Secret::expose);
            format!("{} {:?} {password:?} {:?}", url.address, url.username, url.database)
        })
    }

    #[test]
    fn urls_are_read_as_other_clients_read_them() {
        for (text, read) in [
            ("redis://localhost", "localhost:6379 None None None"),
            ("redis://localhost/", "localhost:6379 None None None"),
            ("redis://10.0.0.1:7000/3", "10.0.0.1:7000 None None Some(3)"),
            ("redis://[::1]:7000", "[::1]:7000 None None None"),
            ("redis://ann:b%40rley@host:1/2", r#"host:1 Some("ann") Some("b@rley") Some(2)"#),
            ("redis://ann:b@rley@host", r#"host:6379 Some("ann") Some("b@rley") None"#),
            ("redis://:barley@host", r#"host:6379 None Some("barley") None"#),
            ("redis://ann@host", r#"host:6379 Some("ann") None None"#),
            ("unix:///run/redis.sock", "/run/redis.sock None None None"),
            ("redis+unix:///run/redis.sock?db=4", "/run/redis.sock None None Some(4)"),
            ("redis+unix://ann:barley@/run/redis.sock", r#"/run/redis.sock Some("ann") Some("barley") None"#),
        ] {
            assert_eq!(url(text).as_deref(), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_showing_it() {
        for text in [
            "",
            "localhost:6379",
            "http://localhost",
            "rediss://localhost",
            "redis://",
            "redis://:6379",
            "redis://host:port",
            "redis://host:0",
            "redis://host:99999",
            "redis://host/first",
            "redis://host/4294967296",
            "redis://host?db=1",
            "redis://ann:bar/ley@host",
            "redis://ann:bar#ley@host",
            "redis://ann:%zz@host",
            "redis://ann:%ff@host",
            "redis://[::1",
            "redis://[barley]:1",
            "unix://run/redis.sock",
            "unix:///",
            "unix:///run/redis.sock?db=x",
            "unix:///run/redis.sock?barley=1",
        ] {
            let refused = url(text).unwrap_err();
            assert!(!refused.contains("barley") && !refused.contains("ley@"), "{text}: {refused}");
        }
    }
}
