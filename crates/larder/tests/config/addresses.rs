//! Where the server is and who we are there: an address, a socket or a URL; with TLS or without.

use super::{load, on_redis, yaml};
use larder::connector::redis::TlsOptions;

#[test]
fn a_url_says_where_the_server_is_and_who_we_are() {
    for (settings, address, username, password, database) in [
        ("url: 'redis://localhost'", "localhost:6379", None, None, 0),
        ("url: 'redis://ann:b%2Frley@[::1]:7000/5'", "[::1]:7000", Some("ann"), Some("b/rley"), 5),
        ("url: 'redis://:barley@h'", "h:6379", None, Some("barley"), 0),
        ("url: 'redis://ann@h', password: barley, database: 2", "h:6379", Some("ann"), Some("barley"), 2),
        ("url: 'redis+unix:///run/redis.sock?db=4'", "/run/redis.sock", None, None, 4),
        ("url: 'unix:///run/redis.sock'", "/run/redis.sock", None, None, 0),
        ("socket: /run/redis.sock", "/run/redis.sock", None, None, 0),
        ("address: h", "h:6379", None, None, 0),
        ("address: '[fe80::1]:1'", "[fe80::1]:1", None, None, 0),
    ] {
        let config = yaml(&on_redis(settings));
        let redis = config.redis().unwrap();
        assert_eq!(redis.address.to_string(), address, "{settings}");
        assert_eq!(redis.username.as_deref(), username, "{settings}");
        assert_eq!(redis.password.as_ref().map(|secret| secret.expose()), password, "{settings}");
        assert_eq!(redis.database, database, "{settings}");
    }
}

#[test]
fn tls_is_a_word_a_section_a_url_or_variables() {
    let tls = |file: &str, variables: &[(&str, &str)]| {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (format!("LARDER_CONNECTORS_REDIS_{name}"), *value)).collect();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        load("a.yaml", &on_redis(file), &variables).map(|config| config.redis().unwrap().tls.clone())
    };
    let (plain, all) =
        (TlsOptions::new(), TlsOptions::new().ca_file("/ca").client_certificate("/c", "/k").server_name("n"));
    for (file, variables, expected) in [
        ("address: h", &[] as &[_], None),
        ("address: h, tls: false", &[], None),
        ("address: h, tls: true", &[], Some(&plain)),
        ("address: h, tls: {}", &[], Some(&plain)),
        ("address: h, tls: { ca_file: /ca, cert_file: /c, key_file: /k, server_name: n }", &[], Some(&all)),
        ("url: 'rediss://h'", &[], Some(&plain)),
        ("url: 'rediss://h?ca_file=/ca&server_name=n', tls: { cert_file: /c, key_file: /k }", &[], Some(&all)),
        ("url: 'redis://h', tls: true", &[], Some(&plain)),
        ("address: h", &[("TLS", "true")], Some(&plain)),
        ("address: h, tls: true", &[("TLS", "false")], None),
        (
            "address: h, tls: { ca_file: /ca, cert_file: /c, key_file: /k }",
            &[("TLS_SERVER_NAME", "n"), ("TLS", "true")],
            Some(&all),
        ),
        ("address: h, tls: { ca_file: /ca }", &[("TLS", "false")], None),
        ("address: h, tls: false", &[("URL", "rediss://h")], Some(&plain)),
        (
            "address: h, tls: true",
            &[("TLS_CA_FILE", "/ca"), ("TLS_CERT_FILE", "/c"), ("TLS_KEY_FILE", "/k"), ("TLS_SERVER_NAME", "n")],
            Some(&all),
        ),
    ] {
        assert_eq!(tls(file, variables), Ok(expected.cloned()), "{file} {variables:?}");
    }
    for (file, expected) in [
        (
            "address: h, tls: 3",
            "tls is `3`: give true, false, or a mapping of ca_file, cert_file, key_file and server_name",
        ),
        ("address: h, tls: { ca_fil: /ca }", "tls.ca_fil is no setting; did you mean `ca_file`?"),
        ("address: h, tls: { cert_file: /c }", "tls.cert_file has no key: give `key_file` too"),
        ("address: h, tls: { key_file: /k }", "tls.key_file has no certificate: give `cert_file` too"),
        ("address: h, tls: { server_name: 'a b' }", "tls.server_name is `a b`: give the name of a host"),
        ("socket: /run/redis.sock, tls: true", "tls is given, and there is none on a Unix socket"),
        ("url: 'rediss://h', tls: false", "tls is false, and contradicts `rediss://` of the URL"),
        (
            "url: 'rediss://h?ca_file=/ca', tls: { ca_file: /ca }",
            "tls.ca_file contradicts the same parameter of the URL",
        ),
        ("url: 'rediss://h?cert_file=/c'", "url has no key: give `key_file` too"),
    ] {
        let refused = tls(file, &[]).unwrap_err();
        assert!(refused.contains(&format!("connectors.redis.{expected}")), "{file}: {refused}");
    }
}
