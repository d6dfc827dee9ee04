//! Turns, sweeps and prunes of the cache's tables in PostgreSQL, far more often than nodes make them: generations of tickets really end in a run.

use super::{Failed, FaultKind, Maker, moment};
use crate::postgres::{Sql, SqlError};
use crate::primary::Primary;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Turns, sweeps and prunes.
pub(crate) struct Upkeep {
    primary: Arc<Primary>,
}

impl Upkeep {
    pub(crate) fn new(primary: Arc<Primary>) -> Self {
        Self { primary }
    }
}

impl Maker for Upkeep {
    async fn make(&self, fault: FaultKind, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        if fault != FaultKind::Turn {
            return Err(Failed::Words(format!("{fault} does not happen to tables")));
        }
        let (mut turns, mut fences) = (0, 0);
        // Another fault may have taken the server, or the tables may not be there yet. Then there is nothing to turn.
        if let Err(error) = turn(&self.primary, rng, &mut turns, &mut fences).await {
            sleep(Duration::from_millis(20)).await;
            return Ok(format!("{turns} turns, {fences} fences swept, until {error}"));
        }
        Ok(format!("{turns} turns, {fences} fences swept"))
    }
}

async fn turn(primary: &Primary, rng: &mut fastrand::Rng, turns: &mut u32, fences: &mut u32) -> Result<(), SqlError> {
    let session = Sql::connect(&primary.server().dsn()).await?;
    // Sweeps that are killed by a fault must not leave a lock behind for long.
    session.run("SET statement_timeout = '3s'").await?;
    let end = Instant::now() + moment(rng, 300..1_500);
    while Instant::now() < end {
        let turned: String = session.number("SELECT larder.turn()").await?;
        *turns += u32::from(turned == "t");
        for _ in 0..rng.u32(1..4) {
            let limit = if rng.bool() { 1_000 } else { rng.u32(1..40) };
            *fences += session.number::<u32>(&format!("SELECT fences FROM larder.sweep({limit})")).await?;
        }
        if rng.u32(..8) == 0 {
            session.run(&format!("SELECT larder.prune(0, {})", rng.u32(1..50))).await?;
        }
        sleep(moment(rng, 1..60)).await;
    }
    Ok(())
}
