//! The configuration of a command: a file, or stdin.

use crate::failure::Failure;
use larder::Config;
use std::io::Read;
use std::path::Path;

/// The path that stands for stdin.
const STDIN: &str = "-";

/// Loads a configuration. The environment variables of this process override it.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    if path.as_os_str() != STDIN {
        return Config::load(path).map_err(|error| Failure::Usage(error.to_string()));
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut text);
    read.map_err(|error| Failure::Usage(format!("the configuration cannot be read from stdin: {error}")))?;
    let variables = std::env::vars_os();
    let config = match is_toml(&text) {
        true => Config::from_toml_with(&text, variables),
        false => Config::from_yaml_with(&text, variables),
    };
    config.map_err(|error| {
        let problems = error.to_string();
        let problems: Vec<String> = problems.lines().map(|problem| format!("stdin: {problem}")).collect();
        Failure::Usage(problems.join("\n"))
    })
}

/// Whether a text without a file name is TOML: its first line opens a table, or sets a key. No configuration in YAML begins like that.
fn is_toml(text: &str) -> bool {
    let first = text.lines().map(str::trim_start).find(|line| !line.is_empty() && !line.starts_with('#'));
    first.is_some_and(|line| {
        let equals = line.find('=');
        line.starts_with('[') || equals.is_some_and(|equals| line.find(':').is_none_or(|colon| equals < colon))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_name_is_told_by_its_first_line() {
        for toml in
            ["# a comment\n\n[defaults]\nconnector = \"memory\"", "defaults.connector = \"memory\"", "  [caches.a]"]
        {
            assert!(is_toml(toml), "{toml}");
        }
        for yaml in [
            "",
            "# a = b\ncaches: {}",
            "---\ncaches:\n",
            "{ caches: {} }",
            "defaults: { connector: a=b }",
            "%YAML 1.2\n---",
        ] {
            assert!(!is_toml(yaml), "{yaml}");
        }
    }
}
