//! What the operator's tool is built of, and what it must not be built of.
//!
//! `larder truncate` runs in production. So nothing that switches a protection off may be compiled into it, and nothing that only
//! tests, the demo and the torture use: an operator waits for each of those packages as well. Cargo unifies features: in a build of the
//! whole workspace the tool gets what any member asks of `larder`. Therefore Cargo is asked about the tool alone, as `cargo install`
//! builds it.

use crate::run::{cargo, output};

/// Packages of tests, demo and torture.
const PACKAGES: [&str; 5] = ["larder-testing", "rusqlite", "libsqlite3-sys", "axum", "metrics-exporter-prometheus"];

/// What turns larder's protections off.
const FEATURE: &str = "torture";

/// Fails where the tool is built of something that it must not be built of.
pub(crate) fn check() -> Result<(), String> {
    let packages = ["--package", "larder-cli", "--edges", "normal,build", "--prefix", "none", "--format", "{p} {f}"];
    let wrong = wrong(&output(cargo(["tree", "--locked"]).args(packages))?);
    if wrong.is_empty() { Ok(()) } else { Err(format!("crates/larder-cli is built with {}", wrong.join(", "))) }
}

/// What must not be there. Each line is a package, its version, where it is, and its features: `larder v0.1.0 (/path) redis,torture`.
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
