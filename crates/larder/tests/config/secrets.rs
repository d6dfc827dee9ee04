//! Passwords: nothing shows one, neither the effective configuration nor an error; and password files.

use super::{load, on_redis, refusal, yaml};
use larder::Config;
use std::fs;

const BARLEY: &str = "ba%rley:@#/";

#[test]
fn no_secret_is_ever_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, format!("{BARLEY}\n")).unwrap();
    let in_url = "ba%25rley%3A%40%23%2F";
    for settings in [
        format!("address: h, username: ann, password: '{BARLEY}'"),
        format!("address: h, password_file: {}", file.display()),
        format!("url: 'redis://ann:{in_url}@h/1'"),
        format!("url: 'unix://:{in_url}@/run/redis.sock'"),
    ] {
        let config = yaml(&format!("{}\ncaches: {{ x: {{ connector: redis }} }}", on_redis(&settings)));
        let redis = config.redis().unwrap();
        let password = redis.password.as_ref().unwrap();
        assert_eq!(password.expose(), BARLEY);
        for shown in [
            format!("{config:?}"),
            format!("{config:#?}"),
            format!("{redis:?}"),
            format!("{password} {password:?}"),
            config.effective().to_string(),
            format!("{:?}", config.effective()),
        ] {
            assert!(!shown.contains("rley") && shown.contains("***") || shown.contains("password_file: /"), "{shown}");
        }
        assert!(!config.effective().to_string().contains("rley"));
    }
}

/// A password is easily put where it does not belong.
#[test]
fn no_error_shows_a_password() {
    for settings in [
        "password: { barley: 1 }",
        "password: [barley]",
        "password:barley",
        "password barley: 1",
        "password: !!int barley",
        "password: !barley barley",
        "password: *barley",
        "password: \"barley",
        "password: barley, password: barley",
        "address: 'redis://ann:barley@h'",
        "address: 'ann:barley@h'",
        "socket: 'unix://ann:barley@/s'",
        "url: 'redis://ann:bar/barley@h'",
        "url: 'rediss://ann:barley@h/#insecure'",
        "url: 'rediss://ann:barley@h?barley=1'",
        "url: 'redis://ann:barley@h', password: barley",
        "url: 'redis://ann:barley@h?barley=1'",
        "url: 'barley'",
        "username: ann, password: '', address: h",
        "breaker: { password:barley: { a: 1, a: 2 } }",
    ] {
        let said = refusal(&on_redis(settings));
        assert!(!said.contains("barley"), "{settings}: {said}");
    }
    for toml in [
        "connectors.redis.password = \"barley",
        "connectors.redis.password = barley",
        "connectors.redis.password = \"barley\"\nconnectors.redis.password = \"barley\"",
        "connectors.redis.\"password barley\" = 1",
    ] {
        let said = Config::from_toml(toml).unwrap_err().to_string();
        assert!(!said.contains("barley"), "{toml}: {said}");
    }
    let said = load("a.yaml", "", &[("LARDER_CONNECTORS_REDIS_URL", "http://ann:barley@h")]).unwrap_err();
    assert!(!said.contains("barley"), "{said}");
}

#[test]
fn a_password_file_loses_its_last_line_break_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let config = on_redis(&format!("address: h, password_file: {}", file.display()));
    for (content, password) in
        [("barley", "barley"), ("barley\n", "barley"), ("barley\r\n", "barley"), (" ba\nrley \n", " ba\nrley ")]
    {
        fs::write(&file, content).unwrap();
        assert_eq!(yaml(&config).redis().unwrap().password.as_ref().unwrap().expose(), password);
    }
    let effective = yaml(&config).effective().to_string();
    assert!(
        effective.contains(&format!("password_file: {}\n", file.display())) || effective.contains("password_file: \"")
    );
    assert!(!effective.contains("password:"));
    for (content, reason) in [
        (&b"\n"[..], "is empty"),
        (b"\xff", "is not UTF-8 text"),
        (&[b'x'; 70_000], "is longer than 64 KiB, and no password"),
    ] {
        fs::write(&file, content).unwrap();
        let expected = format!("line 1: connectors.redis.password_file names {}, which {reason}", file.display());
        assert_eq!(refusal(&config), expected);
    }
}

#[test]
fn a_hidden_password_that_was_loaded_again_is_pointed_out() {
    let config = yaml(&on_redis("address: h, password: barley"));
    let again = yaml(&config.effective().to_string());
    let notes: Vec<String> = again.notes().iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        ["connectors.redis.password: `***` is what larder shows in place of a password; give the password itself"]
    );
}
