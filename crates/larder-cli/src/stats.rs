//! `larder stats`: counts the keys of each cache on a server, and shows the state of the server.

mod postgres;
mod redis;

use crate::failure::Failure;
use crate::output;
use crate::server::Server;
use crate::target::Target;
use clap::Args;
use serde::Serialize;
use std::process::ExitCode;

/// The arguments of `larder stats`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    /// One cache; without it, all caches on the server
    cache: Option<String>,
    /// Print one JSON object; for several servers, an array of objects
    #[arg(long)]
    json: bool,
}

/// The result, by the kind of server. Its serialised form is the output of `--json`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Report {
    Redis(redis::Report),
    Postgres(postgres::Report),
}

pub(crate) async fn run(options: Options) -> Result<ExitCode, Failure> {
    let servers = match &options.cache {
        Some(cache) => vec![options.target.server_of(cache)?],
        None => options.target.servers()?,
    };
    let mut reports = Vec::new();
    for server in &servers {
        let cache = options.cache.as_deref();
        reports.push(match server {
            Server::Redis(server) => Report::Redis(redis::look(server, cache).await?),
            Server::Postgres(server) => Report::Postgres(postgres::look(server, cache).await?),
        });
    }
    match (options.json, reports.as_slice()) {
        (true, [report]) => output::line(serde_json::to_string_pretty(report)?),
        (true, reports) => output::line(serde_json::to_string_pretty(reports)?),
        (false, reports) => {
            let texts: Vec<String> = reports.iter().map(|report| report.text().trim_end().to_owned()).collect();
            output::line(texts.join("\n\n"));
        }
    }
    let unseen: Vec<&String> = reports.iter().flat_map(Report::unseen).collect();
    unseen.iter().for_each(|what| eprintln!("larder: not counted: {what}"));
    Ok(if unseen.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Report {
    /// What could not be counted, and why.
    fn unseen(&self) -> &[String] {
        match self {
            Self::Redis(report) => report.unseen(),
            Self::Postgres(_) => &[],
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Redis(report) => report.text(),
            Self::Postgres(report) => report.text(),
        }
    }
}
