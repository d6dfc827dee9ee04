//! Whatever the bytes of a file or of a variable are, loading them never panics.

use super::{EXAMPLE, ZITADEL};
use larder::Config;
use proptest::prelude::*;
use std::fs;

/// Pieces that a configuration is made of, so that random texts get further than the parser.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "connectors",
        "redis",
        "memory",
        "breaker",
        "caches",
        "Caches",
        "Connectors",
        "Redis",
        "defaults",
        "url",
        "address",
        "max_age",
        "MaxAge",
        "CircuitBreaker",
        "Interval",
        "Timeout",
        "instance",
        "connector",
        "half_open",
        "prefix",
        "max_bytes",
        "Enabled",
        "DBOffset",
        "redis://u:p@h:1/2",
        "unix:///a?db=1",
        "1h30m",
        "-1",
        "0",
        "99999999999999999999",
        "1e300",
        ".nan",
        "~",
        "true",
        "{",
        "}",
        "[",
        "]",
        ": ",
        ", ",
        "\n",
        "  ",
        "- ",
        "!x ",
        "&a ",
        "*a",
        "<<",
        "'",
        "\"",
        "#",
        "---\n",
        "=",
        ".",
        "%",
        "µs",
        "\u{0}",
        "\u{1}",
    ];
    prop_oneof![8 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => ".{0,8}"]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics_the_loader(pieces in proptest::collection::vec(piece(), 0..40)) {
        let text = pieces.concat();
        for loaded in [Config::from_yaml(&text), Config::from_toml(&text)] {
            match loaded {
                Ok(config) => {
                    let effective = config.effective().to_string();
                    let again = Config::from_yaml(&effective);
                    prop_assert!(again.is_ok(), "{effective}\n{:?}", again.err());
                    prop_assert_eq!(again.unwrap().effective().to_string(), effective);
                }
                Err(error) => prop_assert!(!error.problems().is_empty() && !error.to_string().is_empty()),
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn no_value_panics_the_loader(value in "\\PC{0,20}", name in 0_usize..60, zitadel in any::<bool>()) {
        let names: Vec<&str> = EXAMPLE.lines().filter_map(|line| line.trim_start_matches(['#', ' ']).split_once(": ")).map(|(n, _)| n).collect();
        let name = names[name % names.len()].to_uppercase();
        let variables = [
            (format!("LARDER_CONNECTORS_REDIS_{name}"), value.clone()),
            (format!("LARDER_CONNECTORS_REDIS_BREAKER_{name}"), value.clone()),
            (format!("LARDER_CONNECTORS_MEMORY_{name}"), value.clone()),
            (format!("LARDER_CACHES_{name}_MAX_AGE"), value.clone()),
            (format!("ZITADEL_CACHES_CONNECTORS_REDIS_{name}"), value.clone()),
            (format!("LARDER_CACHES_X_{name}"), value),
        ];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, if zitadel { ZITADEL } else { EXAMPLE }).unwrap();
        for variable in variables {
            let _ = Config::load_with(&file, [variable]).map(|config| config.effective().to_string());
        }
    }
}
