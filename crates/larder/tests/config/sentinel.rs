//! Sentinels of a redis connector in a configuration.

use super::{load, on_redis, refusal, yaml};
use larder::Config;
use larder::connector::redis::{RedisOptions, SentinelOptions, TlsOptions};
use std::time::Duration;

fn sentinels(config: &Config) -> &SentinelOptions {
    config.redis().unwrap().sentinel.as_ref().unwrap()
}

fn overlaid(file: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| (format!("LARDER_CONNECTORS_REDIS_{name}"), *value)).collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    load("a.yaml", &on_redis(file), &variables)
}

#[test]
fn a_file_a_url_variables_and_code_give_the_same_options() {
    let code = SentinelOptions::new("m").host("h", 26379).host("::1", 7).credentials("ann", "rye");
    let tls = TlsOptions::new().ca_file("/ca");
    let code = RedisOptions::default().password("barley").database(3).tls(tls.clone()).sentinel(code.tls(tls));
    let servers = "password: barley, database: 3, tls: { ca_file: /ca }";
    for (file, variables) in [
        (
            format!(
                "{servers}, sentinel: {{ master: m, hosts: [h, '[::1]:7'], username: ann, password: rye, tls: {{ ca_file: /ca }} }}"
            ),
            &[] as &[_],
        ),
        (
            "url: 'rediss-sentinel://:barley@h,[::1]:7/3?ca_file=/ca&sentinel_username=ann&sentinel_password=rye#m'"
                .to_owned(),
            &[],
        ),
        (
            "url: 'rediss+sentinel://:barley@h,[::1]:7/m/3?ca_file=/ca', sentinel: { username: ann, password: rye }"
                .to_owned(),
            &[],
        ),
        (
            servers.to_owned(),
            &[
                ("SENTINEL_MASTER", "m"),
                ("SENTINEL_HOSTS", "h, [::1]:7"),
                ("SENTINEL_USERNAME", "ann"),
                ("SENTINEL_PASSWORD", "rye"),
                ("SENTINEL_TLS_CA_FILE", "/ca"),
            ],
        ),
    ] {
        assert_eq!(overlaid(&file, variables).unwrap().redis(), Some(&code), "{file}");
    }
    let all = yaml(&on_redis("sentinel: { master: m, hosts: 'h,i', strict: true, grace: 9s, tls: true }"));
    let code = SentinelOptions::new("m").host("h", 26379).host("i", 26379).strict(true).grace(Duration::from_secs(9));
    assert_eq!(sentinels(&all), &code.tls(TlsOptions::new()));
}

#[test]
fn the_effective_configuration_can_be_loaded_again_and_hides_the_password() {
    for tls in ["false", "true", "{ ca_file: /ca, server_name: n }"] {
        let settings =
            format!("sentinel: {{ master: m, hosts: [h, '[::1]:7'], username: ann, password: barley, tls: {tls} }}");
        let config = yaml(&on_redis(&settings));
        let effective = config.effective().to_string();
        assert!(!effective.contains("barley") && effective.contains("      password: \"***\"\n"), "{effective}");
        assert!(!format!("{config:?}").contains("barley"));
        assert!(
            effective.contains("    sentinel:\n      master: m\n      hosts: [\"h:26379\", \"[::1]:7\"]\n"),
            "{effective}"
        );
        assert!(!effective.contains("address:"), "{effective}");
        let again = yaml(&effective);
        assert_eq!(again.effective().to_string(), effective);
        assert_eq!(sentinels(&again).tls, sentinels(&config).tls);
        let noted = again.notes().iter().any(|note| note.to_string().contains("connectors.redis.sentinel.password"));
        assert!(noted, "the password that is hidden was loaded: {:?}", again.notes());
    }
}

#[test]
fn a_password_file_is_read_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "rye\n").unwrap();
    let settings = format!("sentinel: {{ master: m, hosts: h, password_file: '{}' }}", file.display());
    let config = yaml(&on_redis(&settings));
    assert_eq!(sentinels(&config).password.as_ref().unwrap().expose(), "rye");
    assert!(config.effective().to_string().contains(&format!("password_file: {}", file.display())));
}

#[test]
fn variables_outrank_the_file() {
    let master =
        |file, variables: &[(&str, &str)]| overlaid(file, variables).map(|config| config.redis().unwrap().place());
    let file = "sentinel: { master: m, hosts: h, password: rye }";
    for (file, variables, place) in [
        (file, &[("SENTINEL_HOSTS", "i:1")] as &[_], "m of the Sentinel i:1"),
        (file, &[("URL", "redis://i")], "i:6379"),
        (file, &[("ADDRESS", "i")], "i:6379"),
        (file, &[("URL", "redis-sentinel://i#n")], "n of the Sentinel i:26379"),
        ("url: 'redis://h'", &[("SENTINEL_MASTER", "n"), ("SENTINEL_HOSTS", "i")], "n of the Sentinel i:26379"),
        ("url: 'redis-sentinel://h#m'", &[("SENTINEL_PASSWORD", "rye")], "m of the Sentinel h:26379"),
    ] {
        assert_eq!(master(file, variables).as_deref(), Ok(place), "{file} {variables:?}");
    }
    let kept = overlaid(file, &[("URL", "redis-sentinel://i#n")]).unwrap();
    assert_eq!(sentinels(&kept).password.as_ref().unwrap().expose(), "rye", "the URL says nothing of it");
    let both =
        overlaid("hints: 1", &[("URL", "redis://h"), ("SENTINEL_MASTER", "m"), ("SENTINEL_HOSTS", "h")]).unwrap_err();
    assert!(both.contains("contradicts the environment variable LARDER_CONNECTORS_REDIS_URL"), "{both}");
}

#[test]
fn what_is_wrong_is_refused_with_its_place_and_what_would_be_right() {
    for (settings, expected) in [
        ("sentinel: 7", "sentinel is a number: give a mapping of settings (master, hosts, username"),
        ("sentinel: {}", "sentinel has no `master`: give the name by which the Sentinels know it"),
        ("sentinel: { master: m }", "sentinel has no `hosts`: give the Sentinels, each as host:port"),
        (
            "sentinel: { master: 'a b', hosts: h }",
            "sentinel.master is `a b`: give the name by which the Sentinels know it",
        ),
        ("sentinel: { master: m, hosts: [] }", "sentinel.hosts names no Sentinel: give all of them"),
        (
            "sentinel: { master: m, hosts: ['redis://:barley@h'] }",
            "sentinel.hosts has one that is no host and port: give the Sentinels",
        ),
        (
            "sentinel: { master: m, hosts: h, grace: 2h }",
            "sentinel.grace is `2h`: give a duration up to 1h, such as 4s",
        ),
        ("sentinel: { master: m, hosts: h, strict: much }", "sentinel.strict is `much`: give true or false"),
        ("sentinel: { master: m, hosts: h, username: ann }", "sentinel.username has a user name and no password"),
        (
            "sentinel: { master: m, hosts: h, password: a, password_file: /b }",
            "sentinel.password_file names /b, which cannot be read",
        ),
        (
            "sentinel: { master: m, hosts: h, tls: { cert_file: /c } }",
            "sentinel.tls.cert_file has no key: give `key_file` too",
        ),
        ("sentinel: { master: m, hosts: h, tls: 3 }", "sentinel.tls is `3`: give true, false, or a mapping"),
        ("sentinel: { master: m, hosts: h, mastr: n }", "sentinel.mastr is no setting; did you mean `master`?"),
        (
            "address: h, sentinel: { master: m, hosts: h }",
            "sentinel contradicts `connectors.redis.address`: give one of the two",
        ),
        (
            "url: 'redis://h', sentinel: { master: m, hosts: h }",
            "sentinel contradicts `connectors.redis.url`: give one of the two",
        ),
        (
            "url: 'redis-sentinel://h#m', sentinel: { hosts: i }",
            "sentinel.hosts contradicts the URL, which says it as well",
        ),
        (
            "url: 'redis-sentinel://h'",
            "url does not name the master: add its name, as in redis-sentinel://host:26379#mymaster",
        ),
    ] {
        let said = refusal(&on_redis(settings));
        let expected = format!("connectors.redis.{expected}");
        assert!(said.lines().any(|line| line.starts_with(&format!("line 1: {expected}"))), "{settings}: {said}");
        assert!(!said.contains("barley"), "{said}");
    }
    let nowhere = refusal("connectors: { redis: { sentinel: {} } }\ncaches: { x: { connector: redis } }");
    assert!(!nowhere.contains("does not say where the server is"), "{nowhere}");
}
