//! The phases with an outage.
//!
//! From just before the server fails until every node reads it again, the nodes count as cut off: see the
//! [checker](super::super::checker).

use super::super::identity::Way;
use super::super::instance::Instance;
use super::super::meter::exact_quantiles;
use super::super::own_server::{OwnServer, OwnServerError};
use super::report::{Facts, Figures, Outage, milliseconds};
use super::{Scene, StoryError, Told};
use larder::breaker::State;
use larder::{Delivery, Lookup, Stored, Ticket};
use larder_testing::server::{Reply, Server, ServerError};
use std::ops::Not;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long lookups are measured during an outage.
const MEASURED: Duration = Duration::from_millis(800);

impl Scene<'_> {
    /// SIGSTOP: connections stay open, but nothing is answered.
    pub(super) async fn server_hangs(&self, facts: &mut Facts) -> Told {
        let server = self.server()?;
        let readers = self.readers(500);
        self.identity.cut(true);
        let before = Figures::of(&self.identity);
        self.openings().clear();
        let stopped = Instant::now();
        server.stop().await?;
        // This change is sent to a server that hangs. It waits for its time-out, and may still arrive later.
        self.rename_deferred(facts, 0, 61).await?;
        self.until("every breaker is open", || self.nodes.iter().all(|node| self.opened_at(*node).is_some())).await?;
        let trips = self.nodes.iter().filter_map(|node| self.opened_at(*node));
        let trip = trips.map(|at| at.saturating_duration_since(stopped)).max().unwrap_or_default();
        drop(readers);

        let timed_out = Figures::of(&self.identity).since(&before).timed_out;
        let mut outage = Outage { trip_ms: Some(milliseconds(trip)), timed_out, ..Outage::default() };
        self.measure(facts, &mut outage).await?;
        self.change_meanwhile(facts, 61).await?;
        let waiting = self.waiting();

        let readers = self.readers(500);
        server.cont()?;
        self.recover(facts, &mut outage, waiting).await?;
        drop(readers);
        facts.outage = Some(outage);
        self.after_recovery(facts, true).await?;
        facts.tell("the server was stopped (SIGSTOP), changes went into the journal, the server continued");
        Ok(())
    }

    /// SIGKILL, and the server starts again empty.
    pub(super) async fn server_dies(&self, facts: &mut Facts) -> Told {
        let server = self.server()?;
        let ticket = self.ticket(0).await?;
        let before = self.instance(81)?;
        let readers = self.readers(500);
        self.identity.cut(true);
        server.kill().await?;
        self.until("every node has noticed", || self.identity.nodes.iter().all(|node| !node.cache.status().readable))
            .await?;
        drop(readers);
        let mut outage = Outage::default();
        self.measure(facts, &mut outage).await?;
        self.change_meanwhile(facts, 81).await?;
        let waiting = self.waiting();

        let readers = self.readers(500);
        server.restart().await?;
        self.recover(facts, &mut outage, waiting).await?;
        drop(readers);
        facts.outage = Some(outage);
        self.refuse_old_load(facts, before, ticket).await?;
        self.after_recovery(facts, false).await?;
        facts.tell("the server was killed, changes went into the journal, the server was started again");
        Ok(())
    }

    /// SIGKILL of the primary, and a replica takes over. The killed server starts again after that, as a replica.
    ///
    /// Changes go on meanwhile. Whether one of them is deferred depends on how soon the replica takes over.
    pub(super) async fn primary_dies(&self, facts: &mut Facts) -> Told {
        let server = self.server()?;
        let ticket = self.ticket(0).await?;
        let before = self.instance(81)?;
        let readers = self.readers(500);
        self.identity.cut(true);
        server.kill().await?;
        self.until("every node has noticed", || self.identity.nodes.iter().all(|node| !node.cache.status().readable))
            .await?;
        for (number, node) in (81..89).zip(self.nodes.iter().cycle()) {
            self.rename(facts, *node, number, Way::Invalidate).await?;
        }
        let mut outage = Outage::default();
        self.recover(facts, &mut outage, 0).await?;
        drop(readers);
        facts.outage = Some(outage);
        self.refuse_old_load(facts, before, ticket).await?;
        self.after_recovery(facts, false).await?;
        server.restart().await?;
        facts.tell("the primary was killed, a replica took over, and nothing from before was served");
        Ok(())
    }

    /// SIGKILL, and the server starts again from a snapshot. Invalidations that were applied after the snapshot are lost.
    pub(super) async fn old_snapshot(&self, facts: &mut Facts) -> Told {
        let server = self.redis()?;
        self.accepted(server, "SAVE").await?;
        for (number, node) in (91..=95).zip(self.nodes.iter().cycle()) {
            let delivery = self.rename(facts, *node, number, Way::Invalidate).await?;
            facts.require(delivery == Delivery::Applied, || "a change was not applied at once".to_owned());
        }
        let ticket = self.ticket(0).await?;
        let before = self.instance(91)?;
        self.identity.cut(true);
        server.kill();
        let unreadable = || self.identity.nodes.iter().all(|node| !node.cache.status().readable);
        self.until("every node has noticed", unreadable).await?;
        server.restart().await.map_err(OwnServerError::from)?;
        let restored = self.accepted(server, "DBSIZE").await?.int().unwrap_or_default();
        facts.require(restored > 0, || "the server started without its snapshot, so nothing was shown".to_owned());
        let mut outage = Outage::default();
        self.recover(facts, &mut outage, 0).await?;
        facts.outage = Some(outage);
        self.refuse_old_load(facts, before, ticket).await?;
        self.after_recovery(facts, false).await?;
        facts.tell("the server was killed and started again from an old snapshot: none of it was served");
        Ok(())
    }

    /// FLUSHALL: the objects are gone, and the fences, too.
    pub(super) async fn flush_all(&self, facts: &mut Facts) -> Told {
        let server = self.redis()?;
        let ticket = self.ticket(0).await?;
        let before = self.instance(101)?;
        let readers = self.readers(500);
        self.identity.cut(true);
        server.flushall().await.map_err(OwnServerError::from)?;
        // A node may not have noticed yet. A change that finds the clock gone is deferred until the cache is cleared.
        self.rename(facts, 0, 101, Way::Invalidate).await?;
        for node in &self.nodes {
            let begun = Instant::now();
            // A ticket of another epoch shows that the node has noticed.
            while self.ticket(*node).await.is_ok_and(|new| new.epoch() != ticket.epoch()).not() {
                if begun.elapsed() > super::PATIENCE {
                    return Err(StoryError::InVain { what: "every node has noticed that the server was flushed" });
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        let mut outage = Outage::default();
        self.recover(facts, &mut outage, 0).await?;
        drop(readers);
        facts.outage = Some(outage);
        self.refuse_old_load(facts, before, ticket).await?;
        self.after_recovery(facts, false).await?;
        facts.tell("FLUSHALL: the nodes noticed that the server was empty, and loads from before it were refused");
        Ok(())
    }

    /// SCRIPT FLUSH: the server answers NOSCRIPT once for every script.
    pub(super) async fn script_flush(&self, facts: &mut Facts) -> Told {
        let before = Figures::of(&self.identity);
        let server = self.redis()?;
        for number in 121..=130 {
            server.script_flush().await.map_err(OwnServerError::from)?;
            for (way, node) in [Way::WriteThrough, Way::Invalidate].iter().zip(self.nodes.iter().cycle()) {
                self.rename(facts, *node, number, *way).await?;
            }
        }
        self.compare(facts).await?;
        facts.require_applied();
        let figures = Figures::of(&self.identity).since(&before);
        facts.require(figures.breaker_opened == 0, || {
            "the breaker has opened because of scripts that were only forgotten".to_owned()
        });
        facts.require(figures.stored > 0, || "nothing was stored after SCRIPT FLUSH".to_owned());
        facts.tell("SCRIPT FLUSH: the scripts were sent again, and no call failed");
        Ok(())
    }

    fn server(&self) -> Result<&OwnServer, StoryError> {
        self.backend.server().ok_or_else(|| down().into())
    }

    /// The server of the phases that only Redis and Valkey have.
    fn redis(&self) -> Result<&Server, StoryError> {
        match self.server()? {
            OwnServer::Redis(server) => Ok(server),
            OwnServer::Replicated(_) | OwnServer::Postgres(_) => Err(down().into()),
        }
    }

    async fn accepted(&self, server: &Server, command: &str) -> Result<Reply, StoryError> {
        match server.command(&[command]).await.map_err(OwnServerError::from)? {
            reply @ Reply::Error(_) => {
                Err(OwnServerError::from(ServerError::Refused { command: command.to_owned(), reply }).into())
            }
            reply => Ok(reply),
        }
    }

    fn openings(&self) -> MutexGuard<'_, Vec<(usize, Instant)>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the breaker of a node opened for the first time since `opened` was cleared.
    fn opened_at(&self, node: usize) -> Option<Instant> {
        self.openings().iter().find(|(by, _)| *by == node).map(|(_, at)| *at)
    }

    /// The number of journal entries on all nodes.
    fn waiting(&self) -> u64 {
        self.identity.nodes.iter().map(|node| node.cache.status().journal).sum()
    }

    async fn ticket(&self, node: usize) -> Result<Ticket, StoryError> {
        match self.identity.node(node)?.cache.lookup(Instance::ID, "nobody has this id").await {
            Lookup::Miss { ticket: Some(ticket), .. } => Ok(ticket),
            _ => Err(StoryError::NoTicket),
        }
    }

    async fn rename_deferred(&self, facts: &mut Facts, node: usize, number: u32) -> Told {
        let delivery = self.rename(facts, node, number, Way::Invalidate).await?;
        facts
            .require(delivery == Delivery::Deferred, || "an invalidation without a server was not deferred".to_owned());
        Ok(())
    }

    /// Changes names and hosts during the outage, on every node, both ways.
    async fn change_meanwhile(&self, facts: &mut Facts, first: u32) -> Told {
        for (number, node) in (first..first + 8).zip(self.nodes.iter().cycle()) {
            self.rename_deferred(facts, *node, number).await?;
            let delivery = self.rename(facts, *node, number, Way::WriteThrough).await?;
            facts.require(delivery == Delivery::Deferred, || {
                "a write-through without a server was not deferred".to_owned()
            });
        }
        // Of every four neighbours, the third has four hosts.
        for (number, node) in (first + 2..first + 16).step_by(4).zip(self.nodes.iter().cycle()) {
            self.move_host(facts, *node, (number, number + 1), Way::Invalidate).await?;
        }
        Ok(())
    }

    /// Measures during the outage how long a lookup takes, compared with the loader alone.
    async fn measure(&self, facts: &mut Facts, outage: &mut Outage) -> Told {
        let before = Figures::of(&self.identity);
        let (mut alone, mut through) = (Vec::new(), Vec::new());
        let begun = Instant::now();
        for ((key, node), round) in self.keys.iter().cycle().zip(self.nodes.iter().cycle()).zip(0_u64..) {
            if begun.elapsed() > MEASURED {
                break;
            }
            // The second of the two finds the processor's caches warm. So they take turns.
            for turn in [round, round + 1] {
                if turn.is_multiple_of(2) {
                    let asked = Instant::now();
                    self.identity.source.load(key).await;
                    alone.push(asked.elapsed());
                } else {
                    through.push(self.identity.look_up(*node, key).await?.took);
                }
            }
        }
        outage.measured(exact_quantiles(&mut alone), exact_quantiles(&mut through));
        outage.timed_out_later = Figures::of(&self.identity).since(&before).timed_out;
        facts.require(outage.timed_out_later == 0, || {
            format!("{} lookups waited for the server after all breakers had opened", outage.timed_out_later)
        });
        Ok(())
    }

    /// Waits until every node reads the server again and has replayed its journal.
    async fn recover(&self, facts: &mut Facts, outage: &mut Outage, waiting: u64) -> Told {
        let replayed =
            |scene: &Self| -> u64 { scene.identity.nodes.iter().map(|node| node.cache.stats().replayed.get()).sum() };
        let before = replayed(self);
        let back = |scene: &Self| {
            scene.identity.nodes.iter().all(|node| {
                let status = node.cache.status();
                status.readable && status.journal == 0
            })
        };
        let took = self.until("every node reads the server again", || back(self)).await?;
        outage.recovered_ms = Some(milliseconds(took));
        for node in &self.nodes {
            self.identity.checker.delivered(*node);
        }
        // Then the ramp is over, too: from here on every lookup goes to the server.
        self.until("every breaker is closed", || self.identity.nodes.iter().all(|node| node.is_linked())).await?;
        self.identity.cut(false);
        let replayed = replayed(self) - before;
        facts.require(waiting == 0 || replayed >= waiting, || {
            format!("{waiting} journal entries were waiting, {replayed} were replayed")
        });
        Ok(())
    }

    /// A load from before the server lost its data must be refused.
    async fn refuse_old_load(&self, facts: &mut Facts, old: super::Instance, ticket: Ticket) -> Told {
        let fill = self.identity.node(0)?.cache.fill(old, ticket).await;
        facts.require(matches!(fill, Stored::Overtaken), || format!("a load from before was not refused: {fill:?}"));
        Ok(())
    }

    /// Checks that nothing stale is served, and that lookups are hits again. `kept`: the server has kept its objects.
    async fn after_recovery(&self, facts: &mut Facts, kept: bool) -> Told {
        self.compare(facts).await?;
        if !kept {
            self.read_all().await?;
        }
        let ratio = self.hit_ratio().await;
        facts.require(ratio > 0.9, || format!("only {:.1} % of lookups were hits after the recovery", ratio * 100.0));
        let closed = |state| matches!(state, State::Closed);
        let open = self.identity.nodes.iter().filter_map(|node| node.breaker()).any(|breaker| !closed(breaker.state()));
        facts.require(!open, || "a breaker is open after the recovery".to_owned());
        Ok(())
    }
}

fn down() -> OwnServerError {
    ServerError::Down.into()
}
