//! `larder bench`: measures what larder's operations cost the user's own server, compared with a plain GET or SELECT of the same payload.
//!
//! ```text
//!   bench.rs: rounds, interrupt, removal ──► subject.rs: either redis.rs or postgres.rs
//!     └──► rows.rs: what is measured ──► report.rs
//! ```
//!
//! On Redis the figures are the server's own processor time (INFO cpu), which includes its work for other clients. So an idle interval is
//! measured first, and each row shows how much of such work there would be per operation. On PostgreSQL they are the processor time of the
//! benchmark's own sessions, or, where the server does not tell that, the time that the operations take.

mod postgres;
mod redis;
mod report;
mod rows;
mod subject;

use crate::failure::Failure;
use crate::target::Target;
use crate::{output, progress};
use clap::Args;
use report::{Idle, Report};
use rows::{Bench, Row};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use subject::Subject;

/// How long the idle interval is.
const IDLE: Duration = Duration::from_secs(1);

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
    /// A name of the benchmark's own, under which it stores.
    name: String,
}

/// Measures. Removes everything that it has stored, even after a failure or an interrupt.
pub(crate) async fn run(options: Options) -> Result<ExitCode, Failure> {
    let server = options.target.server()?;
    let plan = Plan {
        objects: options.objects as usize,
        size: options.size as usize,
        rounds: options.rounds,
        stop: Arc::default(),
        name: format!("larder-bench-{:08x}", fastrand::u32(..)),
    };
    let mut subject = Subject::open(&server, &plan).await?;
    // Everything ends before the removal: a set that is still under way would store its object after it.
    let measured = {
        let work = measure(&plan, &mut subject);
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
    let (idle, rows) = match (measured, subject.remove(&plan).await) {
        (Ok(measured), Ok(())) => measured,
        (Err(failure), Ok(())) => return Err(failure),
        (Ok(_), Err(left)) => return Err(left),
        (Err(failure), Err(left)) => return Err(Failure::Problem(format!("{failure}\n{left}"))),
    };
    let report = Report::of(&subject, &plan, idle, &rows);
    if options.json {
        output::line(serde_json::to_string_pretty(&report)?);
    } else {
        output::line(report.text().trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

impl Plan {
    /// About how much of the server's memory, or disk, is used, in bytes: for each number an object with its four keys, and a plain value.
    fn memory(&self) -> u64 {
        1_000_000 + self.objects as u64 * (1_000 + 5 * self.size as u64 / 2)
    }

    fn stopped(&self) -> Result<(), Failure> {
        if self.stop.load(Ordering::Relaxed) { Err(Failure::Problem("interrupted".to_owned())) } else { Ok(()) }
    }
}

async fn measure(plan: &Plan, subject: &mut Subject) -> Result<(Idle, Vec<(Row, Vec<rows::Figure>)>), Failure> {
    let idle = subject.idle().await?;
    let bench = Bench::prepare(plan, subject).await?;
    let mut rows: Vec<(Row, Vec<rows::Figure>)> = Row::ALL.map(|row| (row, Vec::new())).into();
    let shown = progress::bar(u64::from(plan.rounds) * rows.len() as u64, "{elapsed} {wide_bar} {msg}");
    // The rows take turns, so that a disturbance of the server affects every row.
    for _ in 0..plan.rounds {
        for (row, figures) in &mut rows {
            plan.stopped()?;
            shown.set_message(row.name(subject.plain_name()));
            let (before, begun) = (subject.cpu(plan).await?, Instant::now());
            let failed = bench.perform(*row).await;
            let elapsed = begun.elapsed();
            let after = subject.cpu(plan).await?;
            plan.stopped()?;
            if failed > 0 {
                return Err(Failure::Problem(format!(
                    "{failed} of {} operations of the row `{}` got a wrong answer or none: the server is too slow, or somebody \
                     else uses the same prefix; see `larder check`",
                    plan.objects,
                    row.name(subject.plain_name())
                )));
            }
            let cpu = before.zip(after).map(|(before, after)| after.saturating_sub(before));
            figures.push(rows::Figure { cpu, elapsed });
            shown.inc(1);
        }
    }
    shown.finish_and_clear();
    Ok((idle, rows))
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
