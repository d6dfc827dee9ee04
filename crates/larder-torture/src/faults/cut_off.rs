//! A node that does not notice what happens to a server: it reaches none meanwhile, and has in its own memory what the others change as soon as they can.

use super::network::BOTH_WAYS;
use crate::crew::Crew;
use larder_testing::proxy::Fault;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How long a node stays cut off after what has happened: longer than what it has in memory is valid.
const AFTER: Duration = Duration::from_millis(700);

/// One node, cut off from all servers until this is dropped.
pub(super) struct CutOff {
    crew: Arc<Crew>,
    place: usize,
}

impl CutOff {
    /// One node in half of all cases, and none in the others.
    pub(super) fn perhaps(crew: &Arc<Crew>, rng: &mut fastrand::Rng) -> Option<Self> {
        let cut_off = Self { crew: crew.clone(), place: rng.usize(..crew.places()) };
        rng.bool().then(|| {
            cut_off.set(&|| Fault::Blackhole);
            cut_off
        })
    }

    /// Returns when the node has nothing in its memory that is valid, and reaches the servers again.
    pub(super) async fn end(self) -> String {
        sleep(AFTER).await;
        format!("node {} cut off", self.crew.node_at(self.place))
    }

    fn set(&self, fault: &dyn Fn() -> Fault) {
        for (_, way) in self.crew.ways().filter(|(place, _)| *place == self.place) {
            way.proxies().for_each(|proxy| BOTH_WAYS.into_iter().for_each(|direction| proxy.set(direction, fault())));
        }
    }
}

impl Drop for CutOff {
    fn drop(&mut self) {
        self.set(&|| Fault::Pass);
    }
}

/// A server loses everything, perhaps while one node is cut off.
pub(super) async fn flushed<E>(
    crew: &Arc<Crew>,
    rng: &mut fastrand::Rng,
    flush: impl Future<Output = Result<(), E>>,
) -> Result<String, E> {
    let cut_off = CutOff::perhaps(crew, rng);
    flush.await?;
    match cut_off {
        Some(cut_off) => Ok(cut_off.end().await),
        None => Ok(String::new()),
    }
}
