//! `larder bench`: measures what larder's operations cost the user's own server, compared with a plain GET of the same payload.
//!
//! The figures are the server's own processor time (INFO cpu), which includes its work for other clients. So an idle interval is measured
//! first, and each row shows how much of such work there would be per operation.

mod report;
mod rows;

use crate::check::{field, name};
use crate::failure::Failure;
use crate::target::Target;
use crate::{connection, output, progress};
use clap::Args;
use indicatif::HumanBytes;
use larder::connector::redis::RedisOptions;
use redis::aio::MultiplexedConnection;
use report::{Idle, Report};
use rows::{Bench, Row};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the idle interval is.
const IDLE: Duration = Duration::from_secs(1);

/// If the server has no memory limit, one part in this many of the machine's memory must stay free.
const SPARE: u64 = 5;

/// The arguments of `larder bench`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    /// How many objects to store; a round of a row is one operation for each
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    objects: u32,
    /// The size of an object's payload, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 300, value_parser = clap::value_parser!(u32).range(200..=1_000_000))]
    size: u32,
    /// How often to measure each row; the median is shown
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is measured, and whether it is to stop.
#[derive(Clone, Debug)]
struct Plan {
    objects: usize,
    size: usize,
    rounds: u32,
    stop: Arc<AtomicBool>,
}

/// Measures. Removes everything that it has stored, even after a failure or an interrupt.
pub(crate) async fn run(options: Options) -> Result<ExitCode, Failure> {
    let server = options.target.server()?;
    // Fails early on a server that larder would not use.
    drop(server.open().await?);
    let own = server
        .redis
        .clone()
        .prefix(format!("larder-bench-{:08x}", fastrand::u32(..)))
        .client_name("larder-bench".to_owned())
        .operation_timeout(server.redis.operation_timeout.max(Duration::from_secs(1)))
        .max_in_flight(0);
    let plan = Plan {
        objects: options.objects as usize,
        size: options.size as usize,
        rounds: options.rounds,
        stop: Arc::default(),
    };
    let mut control = connection::open(&own).await.map_err(|error| said(&own, &error))?;
    let takes = plan.memory();
    let name = room(&mut control, &own, takes).await?;
    eprintln!(
        "larder bench: stores {} objects of {} bytes on {name} at {}, database {}, under {}:*, about {} of its memory, \
         and removes them",
        plan.objects,
        plan.size,
        own.address,
        own.database,
        own.prefix,
        HumanBytes(takes)
    );
    may_store(&mut control, &own).await?;
    // Everything ends before the removal: a set that is still under way would store its object after it.
    let measured = {
        let work = measure(&plan, &own, &mut control);
        tokio::pin!(work);
        tokio::select! {
            measured = &mut work => measured,
            () = interrupted() => {
                plan.stop.store(true, Ordering::Relaxed);
                let _ = work.await;
                Err(Failure::Problem("interrupted".to_owned()))
            }
        }
    };
    let removed = connection::remove_all(&own).await.map_err(|error| {
        let left = format!(
            "what was stored could not be removed ({error}); the objects expire within two hours. Remove the rest: \
             redis-cli --scan --pattern '{}:*' | xargs redis-cli unlink",
            own.prefix
        );
        Failure::Problem(left)
    });
    let (idle, rows) = match (measured, removed) {
        (Ok(measured), Ok(_)) => measured,
        (Err(failure), Ok(_)) => return Err(failure),
        (Ok(_), Err(left)) => return Err(left),
        (Err(failure), Err(left)) => return Err(Failure::Problem(format!("{failure}\n{left}"))),
    };
    let report = Report::of(name, &own, &plan, idle, &rows);
    if options.json {
        output::line(serde_json::to_string_pretty(&report)?);
    } else {
        output::line(report.text().trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

impl Plan {
    /// About how much of the server's memory is used, in bytes: for each number an object with its four keys, and a plain value.
    fn memory(&self) -> u64 {
        1_000_000 + self.objects as u64 * (1_000 + 5 * self.size as u64 / 2)
    }

    fn stopped(&self) -> Result<(), Failure> {
        if self.stop.load(Ordering::Relaxed) { Err(Failure::Problem("interrupted".to_owned())) } else { Ok(()) }
    }
}

async fn measure(
    plan: &Plan,
    config: &RedisOptions,
    control: &mut MultiplexedConnection,
) -> Result<(Idle, Vec<(Row, Vec<rows::Figure>)>), Failure> {
    let (before, begun) = (cpu(control, config).await?, Instant::now());
    tokio::time::sleep(IDLE).await;
    let used = cpu(control, config).await?.saturating_sub(before);
    let idle = Idle { seconds: begun.elapsed().as_secs_f64(), cpu_seconds: used.as_secs_f64() };

    let bench = Bench::prepare(plan, config).await?;
    let mut rows: Vec<(Row, Vec<rows::Figure>)> = Row::ALL.map(|row| (row, Vec::new())).into();
    let shown = progress::bar(u64::from(plan.rounds) * rows.len() as u64, "{elapsed} {wide_bar} {msg}");
    // The rows take turns, so that a disturbance of the server affects every row.
    for _ in 0..plan.rounds {
        for (row, figures) in &mut rows {
            plan.stopped()?;
            shown.set_message(row.name());
            let (before, begun) = (cpu(control, config).await?, Instant::now());
            let failed = bench.perform(*row).await;
            let elapsed = begun.elapsed();
            let used = cpu(control, config).await?.saturating_sub(before);
            plan.stopped()?;
            if failed > 0 {
                return Err(Failure::Problem(format!(
                    "{failed} of {} operations of the row `{}` got a wrong answer or none: the server is too slow, or somebody \
                     else uses the same prefix; see `larder check`",
                    plan.objects,
                    row.name()
                )));
            }
            figures.push(rows::Figure { cpu: used, elapsed });
            shown.inc(1);
        }
    }
    shown.finish_and_clear();
    Ok((idle, rows))
}

/// Fails if the server could run out of memory, or evict what others have stored. Returns the server's name and version.
async fn room(control: &mut MultiplexedConnection, config: &RedisOptions, takes: u64) -> Result<String, Failure> {
    let mut info = String::new();
    for section in ["server", "memory"] {
        let said_this = redis::cmd("INFO").arg(section).query_async::<String>(control).await;
        info += &said_this.map_err(|error| said(config, &error))?;
    }
    let number = |name: &str| field(&info, name).and_then(|number| number.parse::<u64>().ok());
    let Some(used) = number("used_memory") else {
        return Err(Failure::Problem("the server does not say how much memory it uses (INFO memory)".to_owned()));
    };
    let limit = match (number("maxmemory").unwrap_or(0), number("total_system_memory").unwrap_or(0)) {
        (0, 0) => None,
        (0, machine) => Some(machine - machine / SPARE),
        (limit, _) => Some(limit),
    };
    match limit {
        Some(limit) if used.saturating_add(2 * takes) > limit => Err(Failure::Problem(format!(
            "the server uses {} of {}, and this would take {} more, twice which must be free; give fewer --objects",
            HumanBytes(used),
            HumanBytes(limit),
            HumanBytes(takes)
        ))),
        _ => Ok(name(&info)),
    }
}

/// Stores one key under the benchmark's prefix: the configured user may have rights for the services' prefix only.
async fn may_store(control: &mut MultiplexedConnection, config: &RedisOptions) -> Result<(), Failure> {
    let mut set = redis::cmd("SET");
    let stored = set.arg(format!("{}:probe", config.prefix)).arg("x").arg("EX").arg(60).exec_async(control).await;
    stored.map_err(|error| {
        let failure = said(config, &error);
        Failure::Problem(format!(
            "{failure}; a benchmark needs a user who may store keys that begin with larder-bench-"
        ))
    })
}

/// The processor time of the server's process since it started.
async fn cpu(control: &mut MultiplexedConnection, config: &RedisOptions) -> Result<Duration, Failure> {
    let info: String =
        redis::cmd("INFO").arg("cpu").query_async(control).await.map_err(|error| said(config, &error))?;
    let part = |name: &str| {
        field(&info, name)?.parse().ok().and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok())
    };
    match (part("used_cpu_sys"), part("used_cpu_user")) {
        (Some(system), Some(user)) => Ok(system + user),
        _ => Err(Failure::Problem("the server does not say how much processor time it uses (INFO cpu)".to_owned())),
    }
}

fn said(config: &RedisOptions, error: &redis::RedisError) -> Failure {
    Failure::Problem(format!("the server at {}: {error}", config.address))
}

/// Returns when the command is to end: on Ctrl-C, or when it is told to terminate.
async fn interrupted() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    let _ = tokio::signal::ctrl_c().await;
}
