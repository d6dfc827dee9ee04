//! The faults, and how they are made.

mod certificate;
mod cluster;
mod cut_off;
mod failover;
mod kind;
mod network;
mod pooler;
mod postgres;
mod redis;
mod sentinel;
mod upkeep;

pub(crate) use cluster::BreakingCluster;
pub(crate) use kind::{FaultKind, To, parse};
pub(crate) use network::Network;
pub(crate) use pooler::Pooler;
pub(crate) use postgres::BreakingPostgres;
pub(crate) use redis::BreakingRedis;
pub(crate) use sentinel::BreakingSentinel;
pub(crate) use upkeep::Upkeep;

use crate::postgres::SqlError;
use larder_testing::postgres::PostgresError;
use larder_testing::server::ServerError;
use std::ops::Range;
use std::time::Duration;

/// Why a fault could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("{0}")]
    Server(#[from] ServerError),
    #[error("{0}")]
    Postgres(#[from] PostgresError),
    #[error("{0}")]
    Sql(#[from] SqlError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Certificate(#[from] crate::certificates::NotMade),
    #[error("{0}")]
    Words(String),
}

fn moment(rng: &mut fastrand::Rng, milliseconds: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(milliseconds))
}

/// How long a server is stopped: moments, or until every breaker has opened.
fn stop_time(rng: &mut fastrand::Rng) -> Duration {
    match rng.u8(..8) {
        0..4 => moment(rng, 20..250),
        4..7 => moment(rng, 800..3_000),
        // Longer than any load.
        _ => moment(rng, 3_000..6_000),
    }
}

/// Makes faults, one at a time.
pub(crate) trait Maker: Send + Sync + 'static {
    /// Makes a fault and undoes it. Returns its details, for people.
    fn make(&self, fault: FaultKind, rng: &mut fastrand::Rng) -> impl Future<Output = Result<String, Failed>> + Send;
}

/// Deals faults in random order. Each comes once before any comes again.
#[derive(Debug)]
pub(crate) struct Deck {
    all: Vec<FaultKind>,
    left: Vec<FaultKind>,
    /// The pause before each, in ms.
    calm: Range<u64>,
    pub(crate) rng: fastrand::Rng,
}

impl Deck {
    pub(crate) fn new(faults: &[FaultKind], to: To, calm: Range<u64>, seed: u64) -> Self {
        let all: Vec<FaultKind> = faults.iter().copied().filter(|fault| fault.to() == to).collect();
        Self { all, left: Vec::new(), calm, rng: fastrand::Rng::with_seed(seed) }
    }

    /// The next fault, and the pause before it. `None` if there are no faults.
    pub(crate) fn next(&mut self) -> Option<(Duration, FaultKind)> {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            self.rng.shuffle(&mut self.left);
        }
        let calm = Duration::from_millis(self.rng.u64(self.calm.clone()));
        self.left.pop().map(|fault| (calm, fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_a_schedule_in_which_each_fault_comes_once_a_round() {
        let draw = |seed| {
            let mut deck = Deck::new(&FaultKind::ALL, To::Server, 400..2_200, seed);
            (0..32).filter_map(|_| deck.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let mut round: Vec<_> = draw(3).into_iter().take(26).map(|(_, fault)| fault).collect();
        round.sort();
        round.dedup();
        assert_eq!(round.len(), 26);
        assert!(Deck::new(&[], To::Server, 0..1, 1).next().is_none());
    }
}
