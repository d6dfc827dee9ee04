//! Faults of a cluster: of the primaries on which the caches are, and of their slots on their way.

use super::redis::{command, fall_behind, kill, restart};
use super::{Failed, FaultKind, Maker, cut_off, moment, stop_time};
use crate::crew::Crew;
use crate::deployment::REPLICAS;
use crate::guard::Guard;
use crate::node::{PREFIX, cache_name};
use crate::objects::Kind;
use larder_testing::cluster::Cluster;
use larder_testing::server::{Server, ServerError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a replica may take to become a primary, or a slot to move.
const PATIENCE: Duration = Duration::from_secs(60);

/// After how long nothing mends itself any more.
const LOST: Duration = Duration::from_secs(8);

/// The pauses between the commands that move a slot, in ms.
const PAUSES: std::ops::Range<u64> = 0..40;
const LONGER_PAUSES: std::ops::Range<u64> = 50..250;

/// Makes faults of the nodes of a cluster.
pub(crate) struct BreakingCluster {
    cluster: Arc<Cluster>,
    crew: Arc<Crew>,
    guard: Arc<Guard>,
}

/// The slot of a cache, its primary, and the replica of that primary.
struct Place {
    kind: Kind,
    slot: u16,
    primary: usize,
    replica: usize,
}

/// In which order the keys of a slot leave. Objects and the keys that lead to them are apart meanwhile.
#[derive(Clone, Copy, Debug)]
enum Order {
    Mixed,
    ObjectsFirst,
    ObjectsLast,
}

impl BreakingCluster {
    pub(crate) fn new(cluster: Arc<Cluster>, crew: Arc<Crew>, guard: Arc<Guard>) -> Self {
        Self { cluster, crew, guard }
    }

    /// Waits until everything serves. Returns where one of the caches is: mostly that of the instances, in which more happens.
    async fn place(&self, rng: &mut fastrand::Rng) -> Result<Place, Failed> {
        self.settled().await?;
        let kind = if rng.u8(..4) == 0 { Kind::Policy } else { Kind::Instance };
        let slot = self.slot_of(kind).await?;
        let primary = self.cluster.primary(slot).await?;
        let replica = self.cluster.replica_of(primary).await;
        let replica = replica.ok_or_else(|| Failed::Words("a primary has lost its replica".to_owned()))?;
        Ok(Place { kind, slot, primary, replica })
    }

    fn node(&self, place: usize) -> Result<&Server, Failed> {
        self.cluster.nodes().get(place).ok_or(Failed::Server(ServerError::Down))
    }

    async fn settled(&self) -> Result<(), Failed> {
        let slots = [self.slot_of(Kind::Instance).await?, self.slot_of(Kind::Policy).await?];
        let serve = async {
            self.cluster.settled(REPLICAS).await?;
            let deadline = Instant::now() + PATIENCE;
            for slot in slots {
                // Where a slot that nobody has does not keep the others from being served.
                while self.cluster.primary(slot).await.is_err() && Instant::now() < deadline {
                    sleep(Duration::from_millis(50)).await;
                }
            }
            Ok(())
        };
        tokio::select! {
            settled = serve => settled,
            failed = self.mend_slots(slots) => failed,
        }
    }

    /// Does what an operator does with slots that nobody has or that some node still waits for, until it is dropped. Where a busy machine keeps a primary waiting
    /// for too long that has just been given a slot, or stops its replica, the replica takes over, may not have heard of the slot yet, and does not claim it. And a
    /// node that waits for the keys of a slot believes nobody who says that it has it.
    async fn mend_slots(&self, slots: [u16; 2]) -> Result<(), Failed> {
        loop {
            sleep(LOST).await;
            for slot in slots {
                let number = slot.to_string();
                let mut lost = self.cluster.primary(slot).await.is_err();
                for node in self.cluster.nodes().iter().filter(|node| node.pid().is_some()) {
                    if !is_primary(node).await? {
                        continue;
                    }
                    // A node refuses that has become a replica meanwhile, or has heard of one that claims the slot.
                    node.command(&["CLUSTER", "SETSLOT", &number, "STABLE"]).await?;
                    if std::mem::take(&mut lost) {
                        node.command(&["CLUSTER", "ADDSLOTS", &number]).await?;
                    }
                }
            }
        }
    }

    async fn slot_of(&self, kind: Kind) -> Result<u16, Failed> {
        Ok(self.cluster.slot_of(&format!("{PREFIX}:{{{}}}:c", cache_name(kind))).await?)
    }

    async fn kill_primary(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let place = self.place(rng).await?;
        let (primary, replica) = (self.node(place.primary)?, self.node(place.replica)?);
        let behind = if rng.u8(..5) > 0 { Some(fall_behind(primary, replica, rng).await?) } else { None };
        kill(&self.guard, primary);
        if behind.is_some() {
            replica.cont()?;
        }
        let lacks = behind.map_or(0, |behind| behind.as_millis());
        // Perhaps before any node takes it to be down. Then it is the primary as before, and has lost everything.
        let at_once = rng.u8(..5) == 0;
        if !at_once {
            self.cluster.promoted(place.replica).await?;
        }
        sleep(moment(rng, 0..700)).await;
        restart(&self.guard, primary).await?;
        self.settled().await?;
        let how = if at_once { "it came back at once" } else { "its replica took over" };
        Ok(format!("that of {:?}; {how}; the replica lacked {lacks} ms", place.kind))
    }

    async fn fail_over(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let place = self.place(rng).await?;
        let replica = self.node(place.replica)?;
        let deadline = Instant::now() + PATIENCE;
        // A replica that is not in step gives up after five seconds.
        'again: loop {
            command(replica, &["CLUSTER", "FAILOVER"]).await?;
            let asked = Instant::now();
            while asked.elapsed() < Duration::from_secs(6) {
                if is_primary(replica).await? {
                    break 'again;
                }
                sleep(Duration::from_millis(5)).await;
            }
            if Instant::now() > deadline {
                return Err(Failed::Words("no replica became a primary within a minute".to_owned()));
            }
        }
        self.settled().await?;
        Ok(format!("of {:?}", place.kind))
    }

    async fn depose(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let place = self.place(rng).await?;
        let primary = self.node(place.primary)?;
        primary.stop()?;
        self.cluster.promoted(place.replica).await?;
        // The new primary is in use, or not yet.
        let more = moment(rng, 0..1_500);
        sleep(more).await;
        primary.cont()?;
        self.settled().await?;
        Ok(format!("that of {:?}, until {} ms after the promotion", place.kind, more.as_millis()))
    }

    /// The other nodes of the cluster do not reach the primary, and all nodes of the service do.
    async fn isolate(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let place = self.place(rng).await?;
        self.cluster.cut_off(place.primary).await?;
        let more = moment(rng, 0..2_000);
        let promoted = self.cluster.promoted(place.replica).await;
        sleep(more).await;
        self.cluster.join_again(place.primary).await?;
        promoted?;
        self.settled().await?;
        Ok(format!("that of {:?}, until {} ms after the promotion", place.kind, more.as_millis()))
    }

    async fn move_slot(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        let place = self.place(rng).await?;
        let mut others = Vec::new();
        for other in 0..self.cluster.nodes().len() {
            if other != place.primary && is_primary(self.node(other)?).await? {
                others.push(other);
            }
        }
        let to = rng.choice(&others).copied().ok_or_else(|| Failed::Words("there is one primary only".to_owned()))?;
        let order = match rng.u8(..4) {
            0 => Order::Mixed,
            1 => Order::ObjectsFirst,
            _ => Order::ObjectsLast,
        };
        let mut moved = unless_refused(self.carry(&place, place.primary, to, order, rng).await)?;
        let back = rng.bool();
        if back && moved {
            sleep(moment(rng, 0..2_000)).await;
            moved = unless_refused(self.carry(&place, to, place.primary, order, rng).await)?;
        }
        self.settled().await?;
        Ok(format!(
            "of {:?} from node {} to {to}{}, {order:?}{}",
            place.kind,
            place.primary,
            if back { " and back" } else { "" },
            if moved { "" } else { "; given up" }
        ))
    }

    /// Moves a slot that is in use.
    async fn carry(
        &self,
        place: &Place,
        from: usize,
        to: usize,
        order: Order,
        rng: &mut fastrand::Rng,
    ) -> Result<(), Failed> {
        let slot = place.slot;
        let objects = format!("{PREFIX}:{{{}}}:o", cache_name(place.kind));
        let is_object = |key: &Vec<u8>| key.starts_with(objects.as_bytes());
        self.cluster.begin_move(slot, from, to).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut keys = self.cluster.keys_in(slot, from).await?;
            rng.shuffle(&mut keys);
            match order {
                Order::Mixed => {}
                Order::ObjectsFirst => keys.sort_by_key(|key| !is_object(key)),
                Order::ObjectsLast => keys.sort_by_key(is_object),
            }
            let objects_only = keys.iter().all(is_object);
            keys.truncate(rng.usize(if objects_only { 1..20 } else { 1..60 }));
            if keys.is_empty() {
                match self.cluster.end_move(slot, from, to).await {
                    Ok(()) => return Ok(()),
                    // A key was stored there meanwhile.
                    Err(ServerError::Refused { .. }) if Instant::now() < deadline => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // Where only objects are left, the clock knows nothing of them. Time for others to do something with that.
            sleep(moment(rng, if objects_only { LONGER_PAUSES } else { PAUSES })).await;
            self.cluster.move_keys(&keys, from, to).await?;
        }
    }

    async fn outage(&self, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        self.cluster.nodes().iter().for_each(|node| kill(&self.guard, node));
        let down = moment(rng, 0..800);
        sleep(down).await;
        for node in self.cluster.nodes() {
            restart(&self.guard, node).await?;
        }
        self.settled().await?;
        Ok(format!("down for {} ms", down.as_millis()))
    }
}

/// Whether a slot was moved. If a node refuses its part, because a busy machine has kept it waiting for so long that its replica has its place, the move is given up.
fn unless_refused(moved: Result<(), Failed>) -> Result<bool, Failed> {
    match moved {
        Err(Failed::Server(ServerError::Refused { .. })) => Ok(false),
        moved => moved.map(|()| true),
    }
}

async fn is_primary(node: &Server) -> Result<bool, Failed> {
    Ok(node.info("replication").await?.get("role").is_some_and(|role| role == "master"))
}

impl Maker for BreakingCluster {
    async fn make(&self, fault: FaultKind, rng: &mut fastrand::Rng) -> Result<String, Failed> {
        match fault {
            FaultKind::Kill => self.kill_primary(rng).await,
            FaultKind::Failover => self.fail_over(rng).await,
            FaultKind::Depose => self.depose(rng).await,
            FaultKind::Isolate => self.isolate(rng).await,
            FaultKind::Move => self.move_slot(rng).await,
            FaultKind::Outage => self.outage(rng).await,
            FaultKind::Stop => {
                let place = self.place(rng).await?;
                let (primary, time) = (self.node(place.primary)?, stop_time(rng));
                primary.stop()?;
                sleep(time).await;
                primary.cont()?;
                self.settled().await?;
                Ok(format!("the primary of {:?} for {} ms", place.kind, time.as_millis()))
            }
            FaultKind::FlushAll => {
                let place = self.place(rng).await?;
                let said = cut_off::flushed(&self.crew, rng, self.node(place.primary)?.flushall()).await?;
                Ok(format!("on the primary of {:?} {said}", place.kind))
            }
            FaultKind::ScriptFlush => {
                let place = self.place(rng).await?;
                self.node(place.primary)?.script_flush().await?;
                Ok(format!("on the primary of {:?}", place.kind))
            }
            FaultKind::ClientKill => {
                let place = self.place(rng).await?;
                let killed = self.node(place.primary)?.client_kill_all().await?;
                Ok(format!("{killed} connections to the primary of {:?}", place.kind))
            }
            _ => Err(Failed::Words(format!("{fault} does not happen to a cluster"))),
        }
    }
}
