//! URLs of servers: `redis://user:password@host:port/database`, `rediss://…` for TLS, `redis+unix:///path?db=database`,
//! `redis-cluster://host:port,host:port` for a cluster, and those of Sentinels in `sentinel.rs`.

mod sentinel;

use super::LAST_DATABASE;
use super::address::Address;
use super::sentinel::SentinelOptions;
use super::tls::TlsOptions;
use crate::connector::secret::Secret;

/// The parts of a URL. No error shows any of them: they may hold a password.
#[derive(Debug)]
pub(crate) struct Url {
    pub(crate) address: Address,
    /// Further nodes of the cluster.
    pub(crate) cluster: Option<Vec<Address>>,
    pub(crate) sentinel: Option<SentinelOptions>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: Option<u32>,
    pub(crate) tls: Option<TlsOptions>,
}

const UNREADABLE: &str =
    "is no URL of a server (in a user name or password, write characters other than letters and digits as %XX)";

impl Url {
    /// Reads a URL. The error text follows the path of the setting.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(UNREADABLE)?;
        let (unix, mut tls) = match scheme {
            "redis" => (false, None),
            "rediss" => (false, Some(TlsOptions::default())),
            "unix" | "redis+unix" => (true, None),
            "redis-sentinel" | "redis+sentinel" => return sentinel::parse(rest, None),
            "rediss-sentinel" | "rediss+sentinel" => return sentinel::parse(rest, Some(TlsOptions::default())),
            "redis-cluster" | "redis+cluster" => return cluster(rest, None),
            "rediss-cluster" | "rediss+cluster" => return cluster(rest, Some(TlsOptions::default())),
            _ => {
                return Err(
                    "has a scheme that is none of redis, rediss, redis+unix, unix, and redis or rediss with -sentinel or -cluster",
                );
            }
        };
        if tls.is_some() && rest.ends_with("#insecure") {
            return Err(
                "asks for TLS with any certificate, which larder never does: remove `#insecure`, and give the file of the server's \
                        authority as `ca_file`",
            );
        }
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (username, password, host) = user(authority)?;
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
            match (query, &mut tls) {
                (None, _) => {}
                (Some(query), Some(tls)) => parameters(query, tls)?,
                (Some(_), None) => return Err("has parameters: give them as settings of their own"),
            }
            let database = match path {
                "" | "/" => None,
                path => Some(number(path.trim_start_matches('/'))?),
            };
            (Address::parse(host).ok_or(UNREADABLE)?, database)
        };
        Ok(Self { address, cluster: None, sentinel: None, username, password, database, tls })
    }
}

/// Reads what follows the scheme of a cluster's URL: some nodes, in a list or as further parameters `node=host:port`.
fn cluster(rest: &str, mut tls: Option<TlsOptions>) -> Result<Url, &'static str> {
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (username, password, nodes) = user(authority)?;
    let mut nodes = nodes.split(',').map(Address::parse).collect::<Option<Vec<_>>>().ok_or(UNREADABLE)?;
    if !matches!(path, "" | "/" | "/0") {
        return Err("names a database, and a cluster has none but 0: leave it out");
    }
    for parameter in query.into_iter().flat_map(|query| query.split('&')) {
        match pair(parameter)? {
            ("node", node) => nodes.push(Address::parse(&node).ok_or(UNREADABLE)?),
            (name, value) => {
                if !tls.as_mut().is_some_and(|tls| is_of_tls(name, value, tls)) {
                    return Err(
                        "has a parameter that larder does not know (only `node` and, with rediss-cluster, `ca_file`, `cert_file`, `key_file` and \
                         `server_name` are)",
                    );
                }
            }
        }
    }
    let address = nodes.remove(0);
    Ok(Url { address, cluster: Some(nodes), sentinel: None, username, password, database: None, tls })
}

/// The user name, the password, and what follows them.
fn user(authority: &str) -> Result<(Option<String>, Option<Secret>, &str), &'static str> {
    let (user, rest) = authority.rsplit_once('@').map_or((None, authority), |(user, rest)| (Some(user), rest));
    let (username, password) = user.map_or((None, None), |user| {
        user.split_once(':').map_or((Some(user), None), |(username, password)| (Some(username), Some(password)))
    });
    let part = |part: Option<&str>| match part {
        None | Some("") => Ok(None),
        Some(part) => decode(part).map(Some).ok_or(UNREADABLE),
    };
    Ok((part(username)?, part(password)?.map(Secret::new), rest))
}

/// The number of a database.
fn number(text: &str) -> Result<u32, &'static str> {
    text.parse().ok().filter(|number| *number <= LAST_DATABASE).ok_or(UNREADABLE)
}

/// Reads the parameters of a URL for TLS.
fn parameters(query: &str, tls: &mut TlsOptions) -> Result<(), &'static str> {
    for parameter in query.split('&') {
        let (name, value) = pair(parameter)?;
        if !is_of_tls(name, value, tls) {
            return Err(
                "has a parameter that larder does not know (only `ca_file`, `cert_file`, `key_file` and `server_name` are)",
            );
        }
    }
    Ok(())
}

/// The name and the value of a parameter.
fn pair(parameter: &str) -> Result<(&str, String), &'static str> {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let value = decode(value).filter(|value| !value.is_empty());
    Ok((name, value.ok_or("has a parameter without a value, or with one that cannot be read")?))
}

/// Takes a parameter if it is one for TLS.
fn is_of_tls(name: &str, value: String, tls: &mut TlsOptions) -> bool {
    match name {
        "ca_file" => tls.ca_file = Some(value.into()),
        "cert_file" => tls.cert_file = Some(value.into()),
        "key_file" => tls.key_file = Some(value.into()),
        "server_name" => tls.server_name = Some(value),
        _ => return false,
    }
    true
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
            let tls = url.tls.map(|tls| format!(" {tls:?}")).unwrap_or_default();
            format!("{} {:?} {password:?} {:?}{tls}", url.address, url.username, url.database)
        })
    }

    #[test]
    fn a_url_with_a_second_s_asks_for_tls() {
        for (text, read) in [
            ("rediss://host", TlsOptions::new()),
            (
                "rediss://ann:barley@host:6380/2?server_name=cache.internal",
                TlsOptions::new().server_name("cache.internal"),
            ),
            (
                "rediss://host?ca_file=/etc/ca.pem&cert_file=%2Fetc%2Fc.pem&key_file=/etc/c.key",
                TlsOptions::new().ca_file("/etc/ca.pem").client_certificate("/etc/c.pem", "/etc/c.key"),
            ),
        ] {
            assert_eq!(Url::parse(text).map(|url| url.tls).unwrap(), Some(read), "{text}");
        }
        assert!(Url::parse("rediss://host/#insecure").unwrap_err().contains("ca_file"));
    }

    #[test]
    fn the_nodes_of_a_cluster_are_a_list_or_parameters() {
        let read = |text: &str| {
            Url::parse(text).map(|url| {
                let nodes = url.cluster.unwrap().iter().map(|node| format!(" {node}")).collect::<String>();
                format!("{}{nodes} {:?} {}", url.address, url.username, url.tls.is_some())
            })
        };
        for (text, nodes) in [
            ("redis-cluster://a:7000", "a:7000 None false"),
            ("redis-cluster://ann:rye@a:7000,b:7001,[::1]:7002/0", "a:7000 b:7001 [::1]:7002 Some(\"ann\") false"),
            ("rediss-cluster://a?node=b:1&node=c&server_name=x", "a:6379 b:1 c:6379 None true"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(nodes), "{text}");
        }
        for (text, wrong) in [
            ("redis-cluster://a/1", "a cluster has none but 0"),
            ("redis-cluster://a?server_name=x", "only `node` and, with rediss-cluster"),
            ("redis-cluster://a,,b", "is no URL"),
            ("redis-cluster://", "is no URL"),
        ] {
            assert!(read(text).unwrap_err().contains(wrong), "{text}");
        }
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
            "rediss://",
            "rediss://localhost/#insecure",
            "rediss://localhost?",
            "rediss://localhost?ca_file=",
            "rediss://localhost?server_name=%zz",
            "rediss://localhost?barley=1",
            "redis://localhost?server_name=cache",
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
