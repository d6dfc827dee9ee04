//! URLs of a master that Sentinels know, in the spellings of several clients:
//!
//! ```text
//!   redis-sentinel://user:password@host:port,host:port/database#master
//!   redis-sentinel://user:password@host:port,host:port/master/database
//!   redis-sentinel://user:password@host:port,host:port/database?master_name=master
//! ```

use super::{UNREADABLE, Url, decode, is_of_tls, number, pair, user};
use crate::connector::redis::options::address::Address;
use crate::connector::redis::options::sentinel::{PORT, SentinelOptions};
use crate::connector::redis::options::tls::TlsOptions;
use crate::connector::secret::Secret;

/// Reads what follows the scheme. With `tls`, it is for the servers and for the Sentinels.
pub(super) fn parse(rest: &str, mut tls: Option<TlsOptions>) -> Result<Url, &'static str> {
    let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(rest, name)| (rest, Some(name)));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (username, password, hosts) = user(authority)?;
    let mut sentinel = SentinelOptions::new("");
    for host in hosts.split(',') {
        sentinel.hosts.push(Address::parse_with(host, PORT).ok_or(UNREADABLE)?);
    }
    let mut names: Vec<String> = Vec::new();
    names.extend(fragment.map(|name| decode(name).ok_or(UNREADABLE)).transpose()?);
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // A master cannot be told from a database by anything else: a number is a database.
    if parts.first().is_some_and(|part| !part.bytes().all(|byte| byte.is_ascii_digit())) {
        names.push(decode(parts.remove(0)).ok_or(UNREADABLE)?);
    }
    let database = match parts[..] {
        [] => None,
        [database] => Some(number(database)?),
        _ => return Err(UNREADABLE),
    };
    for parameter in query.into_iter().flat_map(|query| query.split('&')) {
        match pair(parameter)? {
            ("master_name" | "master" | "sentinelMasterId", name) => names.push(name),
            ("sentinel_username", name) => sentinel.username = Some(name),
            ("sentinel_password", text) => sentinel.password = Some(Secret::new(text)),
            (name, value) => {
                if !tls.as_mut().is_some_and(|tls| is_of_tls(name, value, tls)) {
                    return Err(
                        "has a parameter that larder does not know (only `master_name`, `sentinel_username`, `sentinel_password` and, with \
                         rediss-sentinel, `ca_file`, `cert_file`, `key_file` and `server_name` are)",
                    );
                }
            }
        }
    }
    sentinel.master = match <[String; 1]>::try_from(names) {
        Ok([name]) if !name.is_empty() => name,
        Ok(_) => return Err(NO_MASTER),
        Err(names) if names.is_empty() => return Err(NO_MASTER),
        Err(_) => {
            return Err("names the master more than once: name it once, as in redis-sentinel://host:26379#mymaster");
        }
    };
    sentinel.tls.clone_from(&tls);
    // Not used beside Sentinels.
    let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: 6379 };
    Ok(Url { address, cluster: None, sentinel: Some(sentinel), username, password, database, tls })
}

const NO_MASTER: &str = "does not name the master: add its name, as in redis-sentinel://host:26379#mymaster";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, &'static str> {
        Url::parse(text).map(|url| {
            let sentinel = url.sentinel.unwrap();
            let password = |secret: Option<Secret>| secret.map(|secret| secret.expose().to_owned()).unwrap_or_default();
            let of_servers = format!("{}:{}", url.username.unwrap_or_default(), password(url.password));
            let of_sentinels =
                format!("{}:{}", sentinel.username.clone().unwrap_or_default(), password(sentinel.password.clone()));
            format!("{of_servers} {of_sentinels} {sentinel} {:?}", url.database)
        })
    }

    #[test]
    fn the_spellings_of_several_clients_are_read() {
        for (text, expected) in [
            ("redis-sentinel://h#m", ": : m of the Sentinel h:26379 None"),
            (
                "redis-sentinel://ann:b%23rley@h:1,[::1]:2,i/3#m",
                "ann:b#rley : m of the Sentinels h:1, [::1]:2, i:26379 Some(3)",
            ),
            ("redis+sentinel://:barley@h/m", ":barley : m of the Sentinel h:26379 None"),
            ("redis-sentinel://h/m/3", ": : m of the Sentinel h:26379 Some(3)"),
            ("redis-sentinel://h/3?sentinelMasterId=m", ": : m of the Sentinel h:26379 Some(3)"),
            (
                "redis-sentinel://h?master_name=m&sentinel_username=jo&sentinel_password=r%26ye",
                ": jo:r&ye m of the Sentinel h:26379 None",
            ),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
        let url = Url::parse("rediss-sentinel://h?ca_file=/ca.pem#m").unwrap();
        let tls = Some(TlsOptions::new().ca_file("/ca.pem"));
        assert_eq!((&url.tls, &url.sentinel.unwrap().tls), (&tls, &tls), "for the servers and for the Sentinels");
    }

    #[test]
    fn what_is_no_url_of_sentinels_is_refused_without_showing_it() {
        for (text, wrong) in [
            ("redis-sentinel://h", "does not name the master"),
            ("redis-sentinel://h/0", "does not name the master"),
            ("redis-sentinel://h#", "does not name the master"),
            ("redis-sentinel://h/m#m", "more than once"),
            ("redis-sentinel://#m", "no URL"),
            ("redis-sentinel://h,#m", "no URL"),
            ("redis-sentinel://h:0#m", "no URL"),
            ("redis-sentinel://h/m/barley", "no URL"),
            ("redis-sentinel://h/m/1/2", "no URL"),
            ("redis-sentinel://h?barley=1#m", "parameter"),
            ("redis-sentinel://h?ca_file=/barley#m", "parameter"),
            ("redis-sentinel://h?sentinel_password=#m", "without a value"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(wrong) && !refused.contains("barley"), "{text}: {refused}");
        }
    }
}
