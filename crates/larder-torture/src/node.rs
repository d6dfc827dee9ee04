//! One node: a process with its own connection and caches and many tasks, so that it can be killed. The node reads orders from stdin, and
//! writes reports of everything that it has seen to stdout. When its stdin closes, the node ends.

mod caches;
mod callers;
mod follower;
mod recorder;
mod telling;
mod workload;

use super::protocol::{Event, Order, Setup, Truth};
use super::source::Source;
use crate::failure::Failure;
use caches::Caches;
use clap::Args;
use follower::Following;
use larder::protection::Protection;
use recorder::Recorder;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use workload::Workload;

pub(crate) use caches::{DEADLINE, MAX_AGE, OVER, PREFIX, SERVE_EXPIRED, cache_name, operation_timeout};
pub(crate) use workload::{INSTANCES, POLICIES};

/// How long a node may take to come to rest.
const REST: Duration = Duration::from_secs(20);

/// The arguments of a node: its [`Setup`] as JSON.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    setup: String,
}

/// Runs the node until stdin closes.
pub(crate) async fn run(options: Options) -> Result<ExitCode, Failure> {
    let setup: Setup = serde_json::from_str(&options.setup).map_err(|error| Failure::Usage(error.to_string()))?;
    if let Some(name) = &setup.without {
        let protection = Protection::ALL.into_iter().find(|protection| protection.name() == name);
        protection.ok_or_else(|| Failure::Usage(format!("no protection is called {name}")))?.switch_off();
    }
    let caches = Arc::new(Caches::open(&setup)?);
    let (recorder, work) = Work::begin(setup, caches.clone())?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let obeying = async {
        while let Ok(Some(line)) = orders.next_line().await {
            let order: Order = serde_json::from_str(&line)?;
            if let Order::ByPrimary(only) = order {
                work.by_primary(only);
            } else {
                let result = obey(order, &work, &caches).await;
                recorder.record(|at| Event::Done { at, order, result });
            }
        }
        Ok::<_, serde_json::Error>(())
    };
    tokio::select! {
        obeyed = obeying => obeyed.map_err(|error| Failure::Usage(error.to_string()))?,
        told = telling::tell(&recorder, &caches) => {
            told.map_err(|error| Failure::Problem(format!("the coordinator has gone: {error}")))?;
        }
    }
    // Tasks, loads and connections end with the process.
    std::process::exit(0)
}

/// What the tasks of this process do.
enum Work {
    Torture(Workload),
    Follow(Following),
}

impl Work {
    fn begin(setup: Setup, caches: Arc<Caches>) -> Result<(Arc<Recorder>, Self), Failure> {
        match setup.source.clone() {
            Truth::File(file) => {
                let source = Source::open(&file).map_err(|error| Failure::Problem(error.to_string()))?;
                let recorder = Arc::new(Recorder::new(workload::tasks(&setup)));
                Ok((recorder.clone(), Self::Torture(Workload::begin(setup, caches, source, recorder))))
            }
            Truth::Ledger { dsn, .. } => {
                let recorder = Arc::new(Recorder::new(follower::tasks(&setup)));
                Ok((recorder.clone(), Self::Follow(Following::begin(setup, &dsn, caches, recorder))))
            }
        }
    }

    fn by_primary(&self, only: bool) {
        if let Self::Torture(workload) = self {
            workload.by_primary(only);
        }
    }

    async fn end(&self) -> Result<(), String> {
        match self {
            Self::Torture(workload) => workload.end(REST).await,
            Self::Follow(following) => following.end(REST).await,
        }
    }

    fn own_up(&self) {
        if let Self::Torture(workload) = self {
            workload.own_up();
        }
    }

    async fn sweep(&self) {
        match self {
            Self::Torture(workload) => workload.sweep().await,
            Self::Follow(following) => following.sweep().await,
        }
    }
}

async fn obey(order: Order, work: &Work, caches: &Caches) -> Result<(), String> {
    match order {
        Order::ByPrimary(_) => Ok(()),
        Order::Settle => {
            work.end().await?;
            let deadline = tokio::time::Instant::now() + REST;
            while let Some(unrest) = caches.unrest() {
                if tokio::time::Instant::now() > deadline {
                    return Err(format!("{} s after the last operation, {unrest}", REST.as_secs()));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            work.own_up();
            Ok(())
        }
        Order::Sweep => {
            work.sweep().await;
            Ok(())
        }
        Order::Prune => {
            let deadline = tokio::time::Instant::now() + REST;
            loop {
                let pruned = async { caches.instances.prune().await.and(caches.policies.prune().await) };
                match pruned.await {
                    Ok(_) => return Ok(()),
                    Err(error) if tokio::time::Instant::now() > deadline => return Err(error.to_string()),
                    // A slow machine has opened the breaker, for a moment.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        }
    }
}
