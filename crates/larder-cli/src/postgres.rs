//! `larder postgres setup`: makes larder's tables in a PostgreSQL database.

use crate::failure::Failure;
use crate::{configuration, output};
use clap::{Args, Subcommand};
use larder::connector::postgres::inspect::{InspectError, Inspector, SetUp, TABLES};
use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::{Config, ConnectorName, ConnectorOptions};
use serde_json::json;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// The variables that are used together with a URL, so that a password need not be on the command line.
const PASSWORD: [&str; 2] = ["LARDER_CONNECTORS_POSTGRES_PASSWORD", "LARDER_CONNECTORS_POSTGRES_PASSWORD_FILE"];

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Task {
    /// Makes larder's schema, tables and functions in a database, where they are missing
    ///
    /// Everything is in the schema `larder`. Doing it again changes no table and removes nothing. Services make the tables themselves,
    /// unless `create` is false or their user may not. Exit code 0: done. 1: not done; the reason is printed, and what to do. 2: the command
    /// or the configuration cannot be used.
    ///
    /// larder postgres setup postgres://dba@db.internal/shop
    Setup(Setup),
}

/// The arguments of `larder postgres setup`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Setup {
    /// The database: postgres://user[:password]@host[:port]/database, or keys and values as `host=… user=… dbname=…`. The password may be in
    /// LARDER_CONNECTORS_POSTGRES_PASSWORD or _PASSWORD_FILE
    #[arg(value_name = "URL", required_unless_present_any = ["config", "print"], conflicts_with = "config")]
    url: Option<String>,
    /// The configuration of the services, YAML or TOML, or - for stdin; environment variables (LARDER_…) override it, as for a service
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// With a configuration of several databases: the one of this connector
    #[arg(long, requires = "config", conflicts_with = "url", value_name = "NAME")]
    connector: Option<String>,
    /// Print the SQL, and connect to nothing
    #[arg(long, conflicts_with_all = ["json", "connector"])]
    print: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(task: Task) -> Result<ExitCode, Failure> {
    let Task::Setup(setup) = task;
    if setup.print {
        output::line(Postgres::SCHEMA.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let options = setup.options()?;
    let place = options.place();
    let done = async { Inspector::open(options).await?.set_up().await };
    let made = done.await? == SetUp::Made;
    if setup.json {
        output::line(json!({ "database": place, "made": made, "version": TABLES }));
    } else if made {
        output::line(format_args!("made the schema larder with its tables, of version {TABLES}, in {place}"));
    } else {
        output::line(format_args!(
            "the schema larder was in {place} already, of version {TABLES}: put its functions into place again, and changed no table"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

impl Setup {
    fn options(&self) -> Result<PostgresOptions, Failure> {
        let Some(file) = &self.config else {
            return options_of(self.url.as_deref().unwrap_or_default(), "the URL");
        };
        let config = configuration::load(file)?;
        let mut databases: Vec<(&ConnectorName, &PostgresOptions)> = databases(&config).collect();
        let names: Vec<String> = databases.iter().map(|(name, _)| format!("--connector {name}")).collect();
        if let Some(connector) = &self.connector {
            databases.retain(|(name, _)| **name == ConnectorName::from(connector.as_str()));
        }
        match (databases.as_slice(), names.is_empty()) {
            ([(_, options)], _) => Ok((*options).clone()),
            (_, true) => Err(Failure::Usage(
                "the configuration has no database: give connectors.postgres its url, or name the database by a URL"
                    .to_owned(),
            )),
            ([], _) => Err(Failure::Usage(format!(
                "the configuration has no database called `{}`: say {}",
                self.connector.as_deref().unwrap_or_default(),
                names.join(" or ")
            ))),
            _ => Err(Failure::Usage(format!("the configuration has several databases: say {}", names.join(" or ")))),
        }
    }
}

/// The options of a database by its URL. The password may be in a variable. An error names the URL by `called`.
pub(crate) fn options_of(url: &str, called: &str) -> Result<PostgresOptions, Failure> {
    let url = ("LARDER_CONNECTORS_POSTGRES_URL".into(), OsString::from(url));
    let password = std::env::vars_os().filter(|(name, _)| PASSWORD.iter().any(|one| *one == name));
    let config = Config::from_variables(std::iter::once(url).chain(password)).map_err(|error| {
        let problems = error.problems().iter().map(|problem| {
            let text = problem.to_string();
            match (problem.path(), text.split_once(problem.path())) {
                ("connectors.postgres.url", Some((_, reason))) => format!("{called}{reason}"),
                _ => text,
            }
        });
        Failure::Usage(problems.collect::<Vec<_>>().join("\n"))
    })?;
    config.postgres().cloned().ok_or_else(|| Failure::Usage("the URL is empty: give one".to_owned()))
}

/// The databases of a configuration, by the names of their connectors.
fn databases(config: &Config) -> impl Iterator<Item = (&ConnectorName, &PostgresOptions)> {
    config.connectors().filter_map(|(name, options)| match options {
        ConnectorOptions::Postgres(postgres) => Some((name, &**postgres)),
        _ => None,
    })
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        match error {
            InspectError::Key(_) | InspectError::Option(_) => Self::Usage(error.to_string()),
            error => Self::Problem(error.to_string()),
        }
    }
}
