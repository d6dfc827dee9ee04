//! Checks what the operator's command is built of.
//!
//! `larder truncate` runs in production. So the command must not contain code that switches a protection off. It must not contain packages that
//! only tests, the demo and the torture use, either: they would make its build longer. Cargo unifies features: in a build of the whole workspace
//! the command gets every feature that any member asks of `larder`. So this asks Cargo about the command alone, as `cargo install` builds it.

use crate::run::{cargo, output};

/// Packages that only tests, the demo and the torture use.
const PACKAGES: [&str; 5] = ["larder-testing", "rusqlite", "libsqlite3-sys", "axum", "metrics-exporter-prometheus"];

/// The feature that can switch larder's protections off.
const FEATURE: &str = "torture";

/// Fails if the command contains one of these packages, or this feature.
pub(crate) fn check() -> Result<(), String> {
    let packages = ["--package", "larder-cli", "--edges", "normal,build", "--prefix", "none", "--format", "{p} {f}"];
    let wrong = wrong(&output(cargo(["tree", "--locked"]).args(packages))?);
    if wrong.is_empty() { Ok(()) } else { Err(format!("crates/larder-cli is built with {}", wrong.join(", "))) }
}

/// The packages and features in `tree` that must not be there. Each line of `tree` is a package, its version, its path, and its features:
/// `larder v0.1.0 (/path) redis,torture`.
fn wrong(tree: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for line in tree.lines().filter(|line| !line.ends_with("(*)")) {
        let mut words = line.split(' ');
        let (name, features) = (words.next().unwrap_or_default(), words.next_back().unwrap_or_default());
        if PACKAGES.contains(&name) {
            wrong.push(format!("the package {name}"));
        }
        if name == "larder" && features.split(',').any(|feature| feature == FEATURE) {
            wrong.push(format!("the feature `{FEATURE}` of larder"));
        }
    }
    wrong.sort();
    wrong.dedup();
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_be_in_the_tool_is_named_once() {
        let right = "larder-cli v0.1.0 (/torture/larder-cli) \nlarder v0.1.0 (/torture,x/larder) default,redis\nserde v1.0.0 std\n";
        assert!(wrong(right).is_empty());
        let tree = "larder v0.1.0 (/x) redis,torture\nlarder-testing v0.1.0 (/x) \nlarder-testing v0.1.0 (/x)  (*)\nrusqlite v0.37.0 bundled\n";
        assert_eq!(
            wrong(&format!("{right}{tree}")),
            ["the feature `torture` of larder", "the package larder-testing", "the package rusqlite"]
        );
    }
}
