//! Counts what each cache has in a PostgreSQL database, and shows how larder's tables there are doing.

mod text;

use crate::failure::Failure;
use crate::progress;
use crate::server::open_postgres;
use larder::connector::postgres::PostgresOptions;
use larder::connector::postgres::inspect::{CacheCensus, Clock, Count, State};
use serde::Serialize;

/// The result. Its serialised form is the output of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Hosts and database.
    address: String,
    server: ServerFacts,
    clock: Option<ClockFacts>,
    fences: Rows,
    /// For caches that follow the feed.
    changes: Rows,
    tables: Vec<Table>,
    /// The running transaction that holds back vacuum and sweeps the longest. Missing if there is none, or if the user may not see it.
    oldest_transaction: Option<Transaction>,
    prepared_transactions: Vec<Prepared>,
    caches: Vec<Cache>,
}

#[derive(Debug, Serialize)]
struct ServerFacts {
    name: String,
    uptime_seconds: u64,
    connected_clients: u64,
    larder_clients: u64,
    /// Whether the transactions of other users are seen.
    sees_all_sessions: bool,
}

#[derive(Debug, Serialize)]
struct ClockFacts {
    epoch: u64,
    generation: u64,
    oldest_accepted: u64,
    generation_age_seconds: u64,
    /// Whether fences of ended generations wait to be swept.
    sweeping: bool,
    of_this_database: bool,
}

#[derive(Debug, Serialize)]
struct Rows {
    rows: u64,
    estimated: bool,
}

#[derive(Debug, Serialize)]
struct Table {
    table: String,
    bytes: u64,
    index_bytes: u64,
    /// Estimated by the server, as `dead_rows`.
    rows: u64,
    dead_rows: u64,
    vacuumed_seconds_ago: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Transaction {
    pid: i32,
    age_seconds: u64,
    state: Option<String>,
    user: Option<String>,
    application: Option<String>,
}

#[derive(Debug, Serialize)]
struct Prepared {
    gid: String,
    age_seconds: u64,
    keeps_the_clock_away: bool,
}

#[derive(Debug, Serialize)]
struct Cache {
    /// Missing for what belongs to caches that no service has registered since the tables were emptied.
    cache: Option<String>,
    /// Of the objects. The rows of `larder.keys` do not say which cache they belong to.
    bytes: u64,
    /// Whether the numbers are estimated from a part of the tables.
    estimated: bool,
    /// One row per release.
    objects: Vec<Objects>,
    /// One row, for all indexes together.
    index_keys: Vec<IndexKeys>,
    /// Keys under which the source has nothing.
    notes: u64,
    /// Whether nodes keep the objects of a release in their memory, and follow the feed.
    followed: bool,
}

#[derive(Debug, Serialize)]
struct Objects {
    fingerprint: String,
    registered: bool,
    /// The names of the release's indexes, the primary index first. Missing if the release is not registered.
    indexes: Option<Vec<String>>,
    keys: u64,
    bytes: u64,
    /// Objects whose ages are over, and that wait to be removed; `keys` counts them as well.
    over: u64,
}

#[derive(Debug, Serialize)]
struct IndexKeys {
    index: Option<String>,
    keys: u64,
}

pub(super) async fn look(server: &PostgresOptions, cache: Option<&str>) -> Result<Report, Failure> {
    let inspector = open_postgres(server).await?;
    let one = match cache {
        Some(cache) => Some(inspector.cache(cache).await?.name().to_owned()),
        None => None,
    };
    let state = inspector.state().await?;
    let bar = progress::bar(0, "{elapsed} {wide_bar} {human_pos} of {human_len} pages");
    let census = inspector
        .census(one.as_deref(), |progress| {
            bar.set_length(progress.of);
            bar.set_position(progress.pages);
        })
        .await;
    bar.finish_and_clear();
    Ok(Report::of(server.place(), state, census?))
}

impl Report {
    fn of(address: String, state: State, census: Vec<CacheCensus>) -> Self {
        let table = |table: larder::connector::postgres::inspect::Table| Table {
            table: table.name,
            bytes: table.bytes,
            index_bytes: table.index_bytes,
            rows: table.rows,
            dead_rows: table.dead_rows,
            vacuumed_seconds_ago: table.vacuumed_ago.map(|ago| ago.as_secs()),
        };
        Self {
            address,
            server: ServerFacts {
                name: state.name,
                uptime_seconds: state.uptime.as_secs(),
                connected_clients: state.sessions,
                larder_clients: state.larder_sessions,
                sees_all_sessions: state.sees_all_sessions,
            },
            clock: state.clock.map(ClockFacts::of),
            fences: Rows::of(state.fences),
            changes: Rows::of(state.changes),
            tables: state.tables.into_iter().map(table).collect(),
            oldest_transaction: state.oldest_transaction.map(|oldest| Transaction {
                pid: oldest.pid,
                age_seconds: oldest.age.as_secs(),
                state: oldest.state,
                user: oldest.user,
                application: oldest.application,
            }),
            prepared_transactions: state.prepared.into_iter().map(Prepared::of).collect(),
            caches: census.into_iter().map(Cache::of).collect(),
        }
    }
}

impl ClockFacts {
    fn of(clock: Clock) -> Self {
        Self {
            epoch: clock.epoch,
            generation: clock.generation,
            oldest_accepted: clock.oldest,
            generation_age_seconds: clock.turned_ago.as_secs(),
            sweeping: clock.swept + 1 < clock.oldest,
            of_this_database: clock.of_this_database,
        }
    }
}

impl Rows {
    fn of(count: Count) -> Self {
        Self { rows: count.rows, estimated: count.estimated }
    }
}

impl Prepared {
    fn of(prepared: larder::connector::postgres::inspect::Prepared) -> Self {
        Self {
            gid: prepared.gid,
            age_seconds: prepared.age.as_secs(),
            keeps_the_clock_away: prepared.keeps_the_clock_away,
        }
    }
}

impl Cache {
    fn of(census: CacheCensus) -> Self {
        let mut counted = census.objects;
        let followed = census.releases.iter().any(|release| release.followed);
        // A registered release that has stored nothing has a row, too.
        for release in census.releases.iter().filter(|release| !release.followed) {
            counted.entry(release.fingerprint).or_default();
        }
        let objects = counted.iter().map(|(fingerprint, tally)| {
            let release = census.releases.iter().find(|release| release.fingerprint == *fingerprint);
            Objects {
                fingerprint: format!("{fingerprint:016x}"),
                registered: release.is_some(),
                indexes: release.map(|release| release.indexes.clone()),
                keys: tally.rows,
                bytes: tally.bytes,
                over: tally.over,
            }
        });
        // An object has a row of its own in each release, and its keys are the same.
        let keys = counted.values().map(|tally| tally.keys).max().unwrap_or_default();
        Self {
            cache: census.cache,
            bytes: counted.values().map(|tally| tally.bytes).sum(),
            estimated: census.estimated,
            objects: objects.collect(),
            index_keys: vec![IndexKeys { index: None, keys }],
            notes: census.notes,
            followed,
        }
    }
}
