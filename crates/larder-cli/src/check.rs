//! `larder check`: reads a configuration, shows what it comes to, and tries each connector that it names.
//!
//! ```text
//!   Config ──► effective configuration and notes
//!     └──────► server.rs asks the server ──► Facts ──► judge.rs ──► Findings
//!              rights.rs tries what larder does ─────────────────────┘
//! ```

mod finding;
mod judge;
mod rights;
mod server;

pub(crate) use server::{field, name, why_unreachable};

use crate::failure::Failure;
use crate::{configuration, output};
use clap::Args;
use finding::{Finding, Level};
use judge::Facts;
use larder::Config;
use larder::config::ConnectorKind;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// What `larder check` is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The configuration, YAML or TOML, or - for stdin; environment variables (LARDER_…) count as they would for a service
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The whole result. Its serialised form is the output of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether there is nothing to mend.
    ok: bool,
    /// The effective configuration, as YAML, secrets hidden; empty where the configuration cannot be read.
    configuration: String,
    /// What was accepted but has no use.
    notes: Vec<String>,
    /// What is wrong with the configuration.
    errors: Vec<String>,
    connectors: Vec<Connector>,
}

/// One connector.
#[derive(Debug, Serialize)]
struct Connector {
    connector: ConnectorName,
    /// Where it is, for people.
    place: String,
    /// The caches on it that the configuration lists.
    caches: Vec<String>,
    /// Whether a cache that the configuration does not list is on it.
    default: bool,
    /// What the server says of itself, where there is one and it answers.
    server: Option<Facts>,
    findings: Vec<Finding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum ConnectorName {
    None,
    Memory,
    Redis,
    Postgres,
}

/// Exit code for a configuration that cannot be used.
const UNUSABLE: u8 = 2;

/// Checks, and prints what was found.
pub(crate) async fn run(options: Options) -> Result<ExitCode, serde_json::Error> {
    let report = match configuration::load(&options.config) {
        Ok(config) => examine(&config).await,
        Err(failure) => Report::of(&failure),
    };
    if options.json {
        output::line(serde_json::to_string_pretty(&report)?);
    } else if report.errors.is_empty() {
        output::line(report.text().trim_end());
    }
    for error in &report.errors {
        eprintln!("larder: {error}");
    }
    let problems = report.problems().count();
    if problems > 0 {
        eprintln!("larder: {problems} {}", if problems == 1 { "problem" } else { "problems" });
    }
    Ok(match (report.errors.is_empty(), report.ok) {
        (false, _) => ExitCode::from(UNUSABLE),
        (true, false) => ExitCode::FAILURE,
        (true, true) => ExitCode::SUCCESS,
    })
}

async fn examine(config: &Config) -> Report {
    let mut by_connector: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, cache) in config.caches() {
        by_connector.entry(cache.connector.name()).or_default().push(name.to_owned());
    }
    let mut caches_on = |connector: ConnectorKind| by_connector.remove(connector.name()).unwrap_or_default();
    let mut connectors = Vec::new();

    // A cache that the configuration does not list has what the defaults say; none can be listed by this name.
    let unlisted = config.cache("");
    let default = unlisted.as_ref().map(|cache| cache.connector);
    for (kind, connector, place, findings) in [
        (ConnectorKind::Noop, ConnectorName::None, "nowhere", judge::none()),
        (ConnectorKind::Memory, ConnectorName::Memory, "in each process by itself", judge::memory(config.memory())),
        (ConnectorKind::Postgres, ConnectorName::Postgres, "nowhere yet", judge::postgres()),
    ] {
        let caches = caches_on(kind);
        if !caches.is_empty() || default == Some(kind) {
            let default = default == Some(kind);
            connectors.push(Connector { connector, place: place.to_owned(), caches, default, server: None, findings });
        }
    }
    if let Some(redis) = config.redis() {
        let caches = caches_on(ConnectorKind::Redis);
        let default = default == Some(ConnectorKind::Redis);
        let used = !caches.is_empty() || default;
        let on_it = config
            .caches()
            .map(|(_, cache)| cache)
            .chain(&unlisted)
            .filter(|cache| cache.connector == ConnectorKind::Redis);
        let aged = on_it.into_iter().any(|cache| !cache.max_age.is_zero());
        let (facts, mut findings) = server::try_out(redis, judge::Use { max_age: aged }).await;
        if !used {
            findings.push(Finding::note("use", "no cache is on it, so larder will not connect to it"));
        }
        let place = format!("{}, database {}, prefix {}", redis.address, redis.database, redis.prefix);
        connectors.push(Connector { connector: ConnectorName::Redis, place, caches, default, server: facts, findings });
    }

    let notes = config.notes().iter().map(ToString::to_string).collect();
    let report =
        Report { ok: true, configuration: config.effective().to_string(), notes, errors: Vec::new(), connectors };
    let ok = report.problems().count() == 0;
    Report { ok, ..report }
}

impl Report {
    fn of(failure: &Failure) -> Self {
        let errors = failure.to_string().lines().map(str::to_owned).collect();
        Self { ok: false, configuration: String::new(), notes: Vec::new(), errors, connectors: Vec::new() }
    }

    fn problems(&self) -> impl Iterator<Item = &Finding> {
        let findings = self.connectors.iter().flat_map(|connector| &connector.findings);
        findings.filter(|finding| finding.level == Level::Problem)
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        if !self.configuration.is_empty() {
            lines.push("The configuration as it is in force:".to_owned());
            lines.extend(self.configuration.lines().map(|line| format!("  {line}")));
            lines.push(String::new());
        }
        if !self.notes.is_empty() {
            lines.push("Notes:".to_owned());
            lines.extend(self.notes.iter().map(|note| format!("  {note}")));
            lines.push(String::new());
        }
        for connector in &self.connectors {
            let name = match connector.connector {
                ConnectorName::None => "none",
                ConnectorName::Memory => "memory",
                ConnectorName::Redis => "redis",
                ConnectorName::Postgres => "postgres",
            };
            lines.push(format!("{name}: {}", connector.place));
            let mut caches = connector.caches.clone();
            if connector.default {
                caches.push("every one that is not listed".to_owned());
            }
            if !caches.is_empty() {
                lines.push(format!("  caches: {}", caches.join(", ")));
            }
            lines.extend(connector.findings.iter().map(|finding| finding.to_string()));
            lines.push(String::new());
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
