//! Asks a PostgreSQL server about itself, and judges what that means for larder.

use super::finding::Finding;
use larder::connector::postgres::PostgresOptions;
use larder::connector::postgres::inspect::{Facts, InspectError, Inspector, TABLES};
use serde::Serialize;
use std::time::{Duration, Instant};

/// How often the time of an answer is measured.
const PINGS: usize = 5;

/// The oldest major version that larder uses.
const OLDEST: i32 = 15;

/// What a server says about itself, as `--json` shows it.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Database {
    name: String,
    standby: bool,
    user: String,
    database: String,
    isolation: String,
    /// The version of larder's tables. Missing if they are not there.
    tables: Option<i32>,
    missing_rights: Vec<String>,
    /// The median time of an answer, in milliseconds.
    ping_ms: Option<f64>,
}

/// Connects as a service would, and looks. Changes nothing.
pub(super) async fn try_out(options: &PostgresOptions) -> (Option<Database>, Vec<Finding>) {
    let asked = async {
        let inspector = Inspector::open(options.clone()).await?;
        let mut pings = Vec::with_capacity(PINGS);
        for _ in 0..PINGS {
            let begun = Instant::now();
            inspector.ping().await?;
            pings.push(begun.elapsed());
        }
        pings.sort_unstable();
        Ok((inspector.facts().await?, pings))
    };
    match asked.await {
        Ok((facts, pings)) => {
            let findings = judge(&facts, options, pings.get(PINGS / 2).copied());
            (Some(Database::of(facts, pings.get(PINGS / 2).copied())), findings)
        }
        Err(error) => (None, vec![unusable(&error)]),
    }
}

/// Caches are on a postgres connector, and nothing says where the database is.
pub(super) fn unknown() -> Vec<Finding> {
    vec![Finding::problem(
        "database",
        "nothing says where it is: no cache on this connector can be opened",
        "give its URL in the environment variable LARDER_CONNECTORS_POSTGRES_URL, or as connectors.postgres.url",
    )]
}

fn unusable(error: &InspectError) -> Finding {
    match error {
        InspectError::Refused { .. } => Finding::problem(
            "login",
            error.to_string(),
            "correct the url (user, database) and password (or password_file) of the connector",
        ),
        InspectError::Unreachable { .. } => {
            Finding::problem("reachable", error.to_string(), "start the server, or correct the url of the connector")
        }
        _ => Finding::problem("server", error.to_string(), "see what the server says, and its log"),
    }
}

fn judge(facts: &Facts, options: &PostgresOptions, ping: Option<Duration>) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("reachable", format!("as {} in the database {}", facts.user, facts.database))];
    findings.push(if facts.major < OLDEST {
        Finding::problem(
            "version",
            format!("{} is too old: larder needs PostgreSQL {OLDEST} or later", facts.name),
            "upgrade the server; until then larder does not use it",
        )
    } else {
        Finding::ok("version", facts.name.clone())
    });
    if facts.standby {
        findings.push(Finding::problem(
            "role",
            "the server is a standby, where larder's tables cannot be read: larder does not use it",
            "give all hosts in the url, with target_session_attrs=read-write, or the primary's address",
        ));
        return findings;
    }
    findings.push(Finding::ok("role", "primary"));
    findings.extend(ping.map(|ping| latency(ping, options.operation_timeout)));
    findings.push(tables(facts, options.create));
    if facts.tables.is_some() {
        findings.push(if facts.missing.is_empty() {
            Finding::ok("rights", "everything that larder needs")
        } else {
            let (user, missing) = (&facts.user, facts.missing.join(", "));
            Finding::problem("rights", format!("the user {user} lacks {missing}"), facts.grant_use())
        });
    }
    if facts.isolation != "read committed" {
        findings.push(Finding::problem(
            "isolation",
            format!("transactions of {} begin as {}: nothing can be stored", facts.user, facts.isolation),
            format!(
                "ALTER ROLE \"{}\" SET default_transaction_isolation = 'read committed'",
                facts.user.replace('"', "\"\"")
            ),
        ));
    }
    findings
}

fn latency(median: Duration, limit: Duration) -> Finding {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let measured = format!("an answer takes {:.2} ms", ms(median));
    if median * 2 > limit {
        Finding::problem(
            "latency",
            format!(
                "{measured}; an operation may take {:.0} ms (operation_timeout), so many would time out",
                ms(limit)
            ),
            "find out what is slow, or raise operation_timeout of the connector",
        )
    } else {
        Finding::ok("latency", measured)
    }
}

fn tables(facts: &Facts, create: bool) -> Finding {
    match facts.tables {
        Some(TABLES) => Finding::ok("tables", format!("the schema larder is there, of version {TABLES}")),
        Some(version) if version > TABLES => Finding::problem(
            "tables",
            format!("the schema larder is of version {version}, and this larder knows version {TABLES}"),
            "use a larder of the services' version",
        ),
        Some(version) => Finding::problem(
            "tables",
            format!("the schema larder is of version {version}, and this larder needs version {TABLES}"),
            "run `larder postgres setup`",
        ),
        None if !create => Finding::problem(
            "tables",
            "larder's tables are not there, and `create` is false: nothing is cached",
            "run `larder postgres setup`",
        ),
        None if facts.may_create => Finding::note(
            "tables",
            "larder's tables are not there yet; the first service that opens a cache makes them",
        ),
        None => Finding::problem(
            "tables",
            format!("larder's tables are not there, and {}", facts.lacks_create()),
            facts.grant_create(),
        ),
    }
}

impl Database {
    fn of(facts: Facts, ping: Option<Duration>) -> Self {
        Self {
            name: facts.name,
            standby: facts.standby,
            user: facts.user,
            database: facts.database,
            isolation: facts.isolation,
            tables: facts.tables,
            missing_rights: facts.missing,
            ping_ms: ping.map(|ping| ping.as_secs_f64() * 1e3),
        }
    }
}
