//! The configuration as a user meets it: what is accepted, what is refused and in which words, and what is never shown.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end where what they expect does not hold")]

mod addresses;
mod any_text;
mod cluster;
mod connectors;
mod environment;
mod feed;
mod files;
mod mistakes;
mod postgres;
mod secrets;
mod sentinel;
mod settings;
mod tiered;
mod zitadel;

use larder::{Config, ConnectorName};
use std::fs;
use std::time::Duration;

const EXAMPLE: &str = include_str!("../../../../caches.example.yaml");
const ZITADEL: &str = include_str!("zitadel-caches.yaml");

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn yaml(text: &str) -> Config {
    Config::from_yaml(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// What is said of a text that is refused.
fn refusal(text: &str) -> String {
    Config::from_yaml(text).map_or_else(|error| error.to_string(), |_| panic!("accepted: {text}"))
}

/// Loads a file of this name with these environment variables.
fn load(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    fs::write(&file, text).unwrap();
    let place = format!("{}/", folder.path().display());
    Config::load_with(&file, variables.iter().copied()).map_err(|error| error.to_string().replace(&place, ""))
}

fn on(connector: &str) -> ConnectorName {
    connector.into()
}

fn on_redis(settings: &str) -> String {
    format!("connectors: {{ redis: {{ {settings} }} }}")
}
