//! `larder check`: reads a configuration, shows the effective configuration, and tests each connector that it names.
//!
//! ```text
//!   Config ──► effective configuration and notes
//!     ├──────► server.rs asks a Redis server ──► Facts ──► judge.rs ──► Findings
//!     │        cluster.rs asks a cluster for its primaries and slots ─────┤
//!     │        sentinels.rs asks which one it is ──────────────────────────┤
//!     │        rights.rs tries what larder does ───────────────────────────┤
//!     │        tiers.rs asks whether it may wake nodes ────────────────────┤
//!     ├──────► postgres.rs asks a PostgreSQL server, and judges ───────────┤
//!     └──────► feed.rs compares triggers with the sources of feeds ────────┘
//! ```

mod cluster;
mod feed;
mod finding;
mod judge;
mod postgres;
mod rights;
mod sentinels;
mod server;
mod tiers;

pub(crate) use server::{field, name, why_unreachable};

use crate::failure::Failure;
use crate::server::place;
use crate::{configuration, output};
use clap::Args;
use finding::{Finding, Level};
use judge::Facts;
use larder::{CacheOptions, Config, ConnectorKind, ConnectorName, ConnectorOptions};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// The arguments of `larder check`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The configuration, YAML or TOML, or - for stdin; environment variables (LARDER_…) override it, as for a service
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The whole result. Its serialised form is the output of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether there is no error and no problem.
    ok: bool,
    /// The effective configuration, as YAML, secrets hidden. Empty if the configuration cannot be read.
    configuration: String,
    /// Settings that were accepted but have no effect.
    notes: Vec<String>,
    /// What is wrong with the configuration.
    errors: Vec<String>,
    connectors: Vec<Connector>,
    feeds: Vec<feed::Feed>,
}

/// One connector.
#[derive(Debug, Serialize)]
struct Connector {
    /// Its name.
    connector: String,
    kind: &'static str,
    /// The place of the connector's data, for people.
    place: String,
    /// The caches on this connector that the configuration lists.
    caches: Vec<String>,
    /// Whether caches that the configuration does not list are on this connector.
    default: bool,
    /// What the server reports about itself. Missing if there is no server, or if it does not answer.
    server: Option<ServerFacts>,
    findings: Vec<Finding>,
}

/// What a server reports about itself, by its kind.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ServerFacts {
    Redis(Box<Facts>),
    Postgres(postgres::Database),
}

/// Exit code for a configuration that cannot be used.
const UNUSABLE: u8 = 2;

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
    // A cache that the configuration does not list has the defaults.
    let unlisted = config.unlisted();
    let mut connectors = Vec::new();
    for (name, options) in tried(config) {
        let on_it = |cache: &CacheOptions| cache.connector == name;
        let caches: Vec<String> =
            config.caches().filter(|(_, cache)| on_it(cache)).map(|(cache, _)| cache.to_owned()).collect();
        let default = unlisted.as_ref().is_some_and(on_it);
        let used = !caches.is_empty() || default;
        let validity = tiers::validity(config, &name);
        let (place, server, mut findings) = match options {
            ConnectorOptions::Redis(redis) => {
                let all = config.caches().map(|(_, cache)| cache).chain(&unlisted);
                let reaches_it =
                    |cache: &CacheOptions| config.below(&cache.connector).is_some_and(|(below, _)| below == name);
                let aged = all.into_iter().any(|cache| reaches_it(cache) && !cache.max_age.is_zero());
                let here = config.caches().filter(|(_, cache)| reaches_it(cache)).map(|(cache, _)| cache.to_owned());
                let here: Vec<String> = here.collect();
                let (facts, findings) = server::try_out(redis, judge::Use { max_age: aged, validity }, &here).await;
                (place(redis), facts.map(|facts| ServerFacts::Redis(facts.into())), findings)
            }
            ConnectorOptions::Postgres(options) => {
                let (facts, findings) = postgres::try_out(options).await;
                (options.place(), facts.map(ServerFacts::Postgres), findings)
            }
            _ if !used => continue,
            ConnectorOptions::Memory(memory) => ("in each process by itself".to_owned(), None, judge::memory(memory)),
            ConnectorOptions::Tiered(tier) => {
                (format!("in each process, in front of {}", tier.over), None, tiers::judge(config, &name, tier))
            }
            ConnectorOptions::Own => ("wherever the program keeps it".to_owned(), None, judge::own()),
            _ => ("nowhere".to_owned(), None, judge::none()),
        };
        if !used && feed::is_on(config, &name, options.kind()) {
            findings.push(Finding::note("use", "no cache is on this connector; a feed polls its database"));
        } else if !used && validity.is_none() {
            findings.push(Finding::note("use", "no cache is on this connector, so larder will not connect to it"));
        }
        let (connector, kind) = (name.to_string(), options.kind().name());
        connectors.push(Connector { connector, kind, place, caches, default, server, findings });
    }

    // Zitadel's block may put caches on its own database without naming that.
    let unknown = ConnectorName::from("postgres");
    let caches: Vec<String> =
        config.caches().filter(|(_, cache)| cache.connector == unknown).map(|(cache, _)| cache.to_owned()).collect();
    if !caches.is_empty() && config.connector(&unknown).is_none() {
        connectors.push(Connector {
            connector: unknown.to_string(),
            kind: ConnectorKind::Postgres.name(),
            place: "not known".to_owned(),
            caches,
            default: false,
            server: None,
            findings: postgres::unknown(),
        });
    }

    let notes = config.notes().iter().map(ToString::to_string).collect();
    let (configuration, feeds) = (config.effective().to_string(), feed::all(config).await);
    let report = Report { ok: true, configuration, notes, errors: Vec::new(), connectors, feeds };
    let ok = report.problems().count() == 0;
    Report { ok, ..report }
}

/// The connectors to report on: those that always exist, and those of the configuration.
fn tried(config: &Config) -> impl Iterator<Item = (ConnectorName, &ConnectorOptions)> {
    let known = ["none", "memory"].map(ConnectorName::from);
    let given = config.connectors().map(|(name, _)| name.clone()).filter(|name| !known.contains(name));
    let names = known.clone().into_iter().chain(given.collect::<Vec<_>>());
    names.filter_map(|name| Some((name.clone(), config.connector(name)?)))
}

impl Report {
    fn of(failure: &Failure) -> Self {
        let errors = failure.to_string().lines().map(str::to_owned).collect();
        let (notes, connectors, feeds) = (Vec::new(), Vec::new(), Vec::new());
        Self { ok: false, configuration: String::new(), notes, errors, connectors, feeds }
    }

    fn problems(&self) -> impl Iterator<Item = &Finding> {
        let findings = self.connectors.iter().flat_map(|connector| &connector.findings);
        let findings = findings.chain(self.feeds.iter().flat_map(|feed| &feed.findings));
        findings.filter(|finding| finding.level == Level::Problem)
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        if !self.configuration.is_empty() {
            lines.push("The effective configuration:".to_owned());
            lines.extend(self.configuration.lines().map(|line| format!("  {line}")));
            lines.push(String::new());
        }
        if !self.notes.is_empty() {
            lines.push("Notes:".to_owned());
            lines.extend(self.notes.iter().map(|note| format!("  {note}")));
            lines.push(String::new());
        }
        for connector in &self.connectors {
            let name = match connector.connector.as_str() {
                name if name == connector.kind => name.to_owned(),
                name => format!("{name} ({})", connector.kind),
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
        lines.extend(self.feeds.iter().flat_map(feed::Feed::lines));
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
