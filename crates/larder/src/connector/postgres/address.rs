//! What a [`Url`] means to the client library: hosts, times and TLS.
//!
//! larder does not hand the text to the client library, which does not know all parameters of libpq and ignores or misreads some. A parameter that larder
//! cannot honour is an error. No error shows a value: any part of a wrong text may be the password.
//!
//! libpq's environment variables (`PGPASSWORD` and the like) and its files in the home directory are not read.

use super::options::url::{Url, UrlError, port};
use super::tls::{Mode, TlsOptions};
use crate::connector::tls::Roots;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, SslNegotiation};

fn wrong(parameter: &'static str, wrong: &'static str) -> UrlError {
    UrlError { parameter: Some(parameter), wrong }
}

/// What to connect with. The password is not part of it.
pub(crate) fn read(url: &Url) -> Result<(Config, TlsOptions), UrlError> {
    // libpq takes an empty value for one that is not given.
    let mut parameters: BTreeMap<_, _> = url.parameters().filter(|(_, value)| !value.is_empty()).collect();
    let mut take = |name: &str| parameters.remove(name).map(str::to_owned);
    let mut config = Config::new();
    if let Some(user) = take("user") {
        config.user(user);
    }
    if let Some(database) = take("dbname") {
        config.dbname(database);
    }
    if let Some(options) = take("options") {
        config.options(options);
    }
    let (name, fallback) = (take("application_name"), take("fallback_application_name"));
    config.application_name(name.or(fallback).unwrap_or_else(|| "larder".to_owned()));
    places(&mut config, take("host"), take("hostaddr"), take("port"))?;
    times(&mut config, &mut take)?;
    let random = take("load_balance_hosts")
        .map_or(Some(false), |value| one_of(&value, &["disable", "random"]).map(|at| at == 1));
    if random.ok_or_else(|| wrong("load_balance_hosts", "is neither disable nor random"))? {
        config.load_balance_hosts(LoadBalanceHosts::Random);
    }
    // The sessions are on a primary, whatever is asked for: larder checks that itself.
    if !take("target_session_attrs").is_none_or(|value| ["any", "primary", "read-write"].contains(&&*value)) {
        let why = "asks for a standby, and larder keeps its tables on the primary: give read-write, or leave it out";
        return Err(wrong("target_session_attrs", why));
    }
    if !take("client_encoding")
        .is_none_or(|value| ["auto", "utf8", "utf-8", "unicode"].contains(&&*value.to_lowercase()))
    {
        return Err(wrong("client_encoding", "is not UTF8: leave it out"));
    }
    if !take("gssencmode").is_none_or(|value| ["disable", "prefer"].contains(&&*value)) {
        return Err(wrong(
            "gssencmode",
            "asks for encryption by GSSAPI, which larder does not know: use TLS (`sslmode`)",
        ));
    }
    if take("sslcompression").is_some_and(|value| value != "0") {
        return Err(wrong("sslcompression", "asks for compression, which TLS no longer has: leave it out"));
    }
    let tls = tls(&mut config, &mut take)?;
    Ok((config, tls))
}

fn one_of(value: &str, accepted: &[&str]) -> Option<usize> {
    accepted.iter().position(|one| *one == value)
}

fn places(
    config: &mut Config,
    hosts: Option<String>,
    addresses: Option<String>,
    ports: Option<String>,
) -> Result<(), UrlError> {
    for host in hosts.iter().flat_map(|hosts| hosts.split(',')) {
        if host.is_empty() {
            return Err(wrong("host", "has an empty name in its list"));
        }
        if cfg!(not(unix)) && host.starts_with('/') {
            return Err(wrong("host", "is the folder of a Unix socket, which this system has not"));
        }
        config.host(host);
    }
    for address in addresses.iter().flat_map(|addresses| addresses.split(',')) {
        let read: IpAddr = address.parse().map_err(|_| wrong("hostaddr", "is not an IP address, or a list of them"))?;
        config.hostaddr(read);
    }
    for one in ports.iter().flat_map(|ports| ports.split(',')) {
        config.port(port(one)?);
    }
    let (hosts, addresses, ports) = (config.get_hosts().len(), config.get_hostaddrs().len(), config.get_ports().len());
    if hosts > 0 && addresses > 0 && hosts != addresses {
        return Err(wrong("hostaddr", "has another number of addresses than `host` has hosts"));
    }
    if ports > 1 && ports != hosts.max(addresses) {
        return Err(wrong("port", "has another number of ports than there are hosts: give one, or one for each"));
    }
    Ok(())
}

fn times(config: &mut Config, take: &mut impl FnMut(&str) -> Option<String>) -> Result<(), UrlError> {
    let mut number = |name: &'static str| match take(name).map(|value| value.trim().parse::<i64>()) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(u64::try_from(number).unwrap_or(0))),
        Some(Err(_)) => Err(wrong(name, "is not a number")),
    };
    if let Some(seconds @ 1..) = number("connect_timeout")? {
        config.connect_timeout(Duration::from_secs(seconds));
    }
    if let Some(milliseconds @ 1..) = number("tcp_user_timeout")? {
        config.tcp_user_timeout(Duration::from_millis(milliseconds));
    }
    if let Some(on) = number("keepalives")? {
        config.keepalives(on != 0);
    }
    if let Some(seconds @ 1..) = number("keepalives_idle")? {
        config.keepalives_idle(Duration::from_secs(seconds));
    }
    if let Some(seconds @ 1..) = number("keepalives_interval")? {
        config.keepalives_interval(Duration::from_secs(seconds));
    }
    if let Some(count @ 1..) = number("keepalives_count")? {
        config.keepalives_retries(u32::try_from(count).unwrap_or(u32::MAX));
    }
    Ok(())
}

fn tls(config: &mut Config, take: &mut impl FnMut(&str) -> Option<String>) -> Result<TlsOptions, UrlError> {
    let roots = match take("sslrootcert") {
        None => Roots::None,
        Some(system) if system == "system" => Roots::System,
        Some(file) => Roots::File(file.into()),
    };
    let mode = match take("sslmode").as_deref() {
        None if roots == Roots::System => Mode::VerifyFull,
        None | Some("prefer") => Mode::Prefer,
        Some("disable") => Mode::Disable,
        Some("allow") => Mode::Allow,
        Some("require") => Mode::Require,
        Some("verify-ca") => Mode::VerifyCa,
        Some("verify-full") => Mode::VerifyFull,
        Some(_) => {
            return Err(wrong("sslmode", "is none of disable, allow, prefer, require, verify-ca and verify-full"));
        }
    };
    if roots == Roots::System && mode != Mode::VerifyFull {
        let why =
            "is weaker than verify-full, and sslrootcert=system trusts many: give verify-full, or leave sslmode out";
        return Err(wrong("sslmode", why));
    }
    if roots == Roots::None && matches!(mode, Mode::VerifyCa | Mode::VerifyFull) {
        return Err(wrong(
            "sslrootcert",
            "is missing, and sslmode asks to verify the server's certificate: name the file of its \
            authority, or `system`",
        ));
    }
    let client = match (take("sslcert"), take("sslkey")) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (Some(_), None) => return Err(wrong("sslkey", "is missing, and sslcert is given: give both")),
        (None, Some(_)) => return Err(wrong("sslcert", "is missing, and sslkey is given: give both")),
    };
    match take("sslnegotiation").as_deref() {
        None | Some("postgres") => {}
        Some("direct") if matches!(mode, Mode::Disable | Mode::Allow | Mode::Prefer) => {
            return Err(wrong("sslnegotiation", "is direct, which needs sslmode=require, verify-ca or verify-full"));
        }
        Some("direct") => drop(config.ssl_negotiation(SslNegotiation::Direct)),
        Some(_) => return Err(wrong("sslnegotiation", "is neither postgres nor direct")),
    }
    match take("channel_binding").as_deref() {
        None | Some("prefer") => {}
        Some("disable") => drop(config.channel_binding(ChannelBinding::Disable)),
        Some("require") => drop(config.channel_binding(ChannelBinding::Require)),
        Some(_) => return Err(wrong("channel_binding", "is none of disable, prefer and require")),
    }
    let sni = match take("sslsni").as_deref() {
        None | Some("1") => true,
        Some("0") => false,
        Some(_) => return Err(wrong("sslsni", "is neither 0 nor 1")),
    };
    let newest_only = match take("ssl_min_protocol_version").as_deref() {
        None | Some("TLSv1" | "TLSv1.1" | "TLSv1.2") => false,
        Some("TLSv1.3") => true,
        Some(_) => return Err(wrong("ssl_min_protocol_version", "is none of TLSv1, TLSv1.1, TLSv1.2 and TLSv1.3")),
    };
    Ok(TlsOptions { mode, roots, client, sni, newest_only })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use tokio_postgres::config::Host;

    fn config(text: &str) -> Config {
        read(&Url::parse(text).unwrap().0).unwrap().0
    }

    #[test]
    fn a_url_may_have_every_part() {
        let url = "postgresql://jo%40x:s%2Fe%3Ac@db1:5433,[::1],db3:5434/my%20db?connect_timeout=3&application_name=a%26b&tcp_user_timeout=1500";
        let config = config(url);
        assert_eq!(config.get_user(), Some("jo@x"));
        assert_eq!(config.get_hosts(), [Host::Tcp("db1".into()), Host::Tcp("::1".into()), Host::Tcp("db3".into())]);
        assert_eq!((config.get_ports(), config.get_dbname()), ([5433, 5432, 5434].as_slice(), Some("my db")));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_millis(1500)), "libpq counts milliseconds here");
        assert_eq!(config.get_application_name(), Some("a&b"));
    }

    #[test]
    fn keys_and_values_may_be_quoted() {
        let config = config(r"host = /run/pg,db hostaddr=127.0.0.1,::1 user='j o' password='it\'s \\' port=5433");
        assert_eq!(config.get_hosts(), [Host::Unix("/run/pg".into()), Host::Tcp("db".into())]);
        assert_eq!(config.get_user(), Some("j o"));
        assert_eq!(config.get_application_name(), Some("larder"));
        assert_eq!(config.get_hostaddrs().len(), 2);
    }

    #[test]
    fn a_unix_socket_stands_in_a_url_too() {
        for url in ["postgres://%2Frun%2Fpg/d", "postgres:///d?host=/run/pg"] {
            assert_eq!(config(url).get_hosts(), [Host::Unix("/run/pg".into())], "{url}");
        }
    }

    #[test]
    fn tls_is_as_libpq_has_it() {
        let tls = |text: &str| read(&Url::parse(&format!("host=h {text}")).unwrap().0).unwrap().1;
        assert_eq!(tls("").mode, Mode::Prefer);
        assert_eq!(tls("sslrootcert=system").mode, Mode::VerifyFull);
        let whole = tls("sslmode=verify-ca sslrootcert=/ca sslcert=/c sslkey=/k sslsni=0");
        assert_eq!(whole.roots, Roots::File(PathBuf::from("/ca")));
        assert_eq!((whole.client, whole.sni), (Some((PathBuf::from("/c"), PathBuf::from("/k"))), false));
    }
}
