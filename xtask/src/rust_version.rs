//! Checks that the library compiles with the oldest Rust that `Cargo.toml` promises (`rust-version`).
//!
//! Only a build with that version proves this. A lint knows since when a function of the standard library exists, but no lint knows since
//! when a part of the language exists. So the promised version should be the version in use. If a newer version is in use, this compiles
//! the library once more with the promised version.

use crate::run::{cargo, output, root, succeed};
use std::fs;
use std::process::Command;

/// Major, minor.
type Version = (u32, u32);

/// Compares the promise with the compiler in use, and with what the dependencies demand.
pub(crate) fn check() -> Result<(), String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).map_err(|error| format!("Cargo.toml: {error}"))?;
    let promised = promised(&manifest).ok_or("Cargo.toml has no `rust-version`")?;
    let metadata = output(&mut cargo(["metadata", "--format-version", "1", "--all-features", "--locked"]))?;
    let newer: Vec<_> = demands(&metadata).filter(|(_, demanded)| *demanded > promised).map(|(id, _)| id).collect();
    if !newer.is_empty() {
        return Err(format!(
            "these packages need a newer Rust than the promised {}: {}",
            shown(promised),
            newer.join(", ")
        ));
    }
    let used = output(Command::new("rustc").arg("--version").current_dir(root()))?;
    let used = used.split(' ').nth(1).and_then(version).ok_or("rustc does not say its version")?;
    if used <= promised {
        return Ok(());
    }
    let promised = shown(promised);
    let mut older = Command::new("rustup");
    older.current_dir(root()).args(["run", &promised, "cargo", "check", "--package", "larder", "--all-features"]);
    succeed(older.env("CARGO_TARGET_DIR", root().join("target").join(format!("rust-{promised}")))).map_err(|error| {
        format!(
            "Rust {} is in use, but the library does not compile with the promised {promised}: raise `rust-version`, or install \
             {promised} (`rustup toolchain install {promised}`) and mend the code; {error}",
            shown(used)
        )
    })
}

fn promised(manifest: &str) -> Option<Version> {
    let value = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "))?;
    version(value.trim_matches('"'))
}

/// The packages that say which Rust they need, by their ids. In cargo's output the last id before a `rust_version` is that of its package.
fn demands(metadata: &str) -> impl Iterator<Item = (&str, Version)> {
    const DEMAND: &str = "\"rust_version\":\"";
    const ID: &str = "\"id\":\"";
    metadata.match_indices(DEMAND).filter_map(|(place, _)| {
        let (before, after) = metadata.split_at(place);
        let id = before.get(before.rfind(ID)? + ID.len()..)?.split('"').next()?;
        Some((id, version(after.get(DEMAND.len()..)?.split('"').next()?)?))
    })
}

fn version(text: &str) -> Option<Version> {
    let mut numbers = text.trim().split(['.', '-', '+']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn shown((major, minor): Version) -> String {
    format!("{major}.{minor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_and_what_is_demanded_is_read() {
        assert_eq!(promised("[workspace.package]\nedition = \"2024\"\nrust-version = \"1.95\"\n"), Some((1, 95)));
        assert_eq!(promised("[package]\n"), None);
        assert_eq!((version("1.95.0-nightly"), version("1.9"), version("one")), (Some((1, 95)), Some((1, 9)), None));
        let metadata = r#"{"packages":[
            {"name":"a","id":"registry#a@1.0.0","dependencies":[{"name":"b"}],"rust_version":"1.100.2"},
            {"name":"b","id":"registry#b@2.0.0","dependencies":[],"rust_version":null},
            {"name":"c","id":"path#c@3.0.0","dependencies":[],"rust_version":"1.9"}],"resolve":{"nodes":[{"id":"x"}]}}"#;
        let read: Vec<_> = demands(metadata).collect();
        assert_eq!(read, [("registry#a@1.0.0", (1, 100)), ("path#c@3.0.0", (1, 9))]);
    }
}
