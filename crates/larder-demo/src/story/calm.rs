//! The phases without an outage.

use super::super::identity::Way;
use super::super::instance::{Instance, InstanceKey};
use super::super::load::{Rates, next_name};
use super::super::source::Edit;
use super::report::{Facts, Figures};
use super::{IdentityError, Scene, StoryError, Told};
use larder::{Delivery, Lookup, Stored};
use std::time::Duration;

/// Both ways of a change, in turn.
const WAYS: [Way; 2] = [Way::WriteThrough, Way::Invalidate];

impl Scene<'_> {
    pub(super) async fn warm_up(&self, facts: &mut Facts) -> Told {
        self.until("every node is connected", || self.identity.nodes.iter().all(|node| node.is_linked())).await?;
        self.read_all().await?;
        let cold = Figures::of(&self.identity);
        self.read_all().await?;
        let warm = Figures::of(&self.identity).since(&cold);
        facts.require(warm.hit_ratio() > 0.99, || {
            format!("only {:.1} % of a second round were hits", warm.hit_ratio() * 100.0)
        });
        facts.tell("every key was looked up twice on every node; the cache answered the second round");
        Ok(())
    }

    pub(super) async fn look_up(&self, facts: &mut Facts) -> Told {
        let before = Figures::of(&self.identity);
        let readers = self.readers(2_000);
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        facts.require(readers.failures() == 0, || format!("{} lookups failed", readers.failures()));
        drop(readers);
        let read = Figures::of(&self.identity).since(&before);
        facts.require(read.lookups > 0, || "nothing was read".to_owned());
        facts.require(read.hit_ratio() > 0.99, || format!("only {:.1} % were hits", read.hit_ratio() * 100.0));
        facts.tell("steady reading by ids and hosts, from many tasks on each node");
        Ok(())
    }

    /// Changes during steady reading: both ways, on every node.
    pub(super) async fn change(&self, facts: &mut Facts) -> Told {
        let before = Figures::of(&self.identity);
        let crowd = self.crowd(1..=20, Rates { lookups: 1_500, changes: 50 })?;
        for (number, nodes) in (1..=20).cycle().zip(0..).take(60) {
            for (way, node) in WAYS.iter().zip(self.nodes.iter().cycle().skip(nodes)) {
                self.rename(facts, *node, number, *way).await?;
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        facts.require(crowd.failures() == 0, || format!("{} calls failed", crowd.failures()));
        drop(crowd);
        self.compare(facts).await?;
        let figures = Figures::of(&self.identity).since(&before);
        facts.require(figures.stored > 0, || "no change was written through".to_owned());
        facts.require(figures.applied > 0, || "no invalidation was applied".to_owned());
        facts.require_applied();
        facts.tell(
            "names were changed during steady reading: written through, and invalidated after the write, on every node",
        );
        Ok(())
    }

    /// A host that has moved must not lead to its former owner on any node.
    pub(super) async fn move_hosts(&self, facts: &mut Facts) -> Told {
        let crowd = self.crowd(3..=12, Rates { lookups: 1_500, changes: 0 })?;
        for number in 0..30 {
            // The first instance of each pair has four hosts, the second has one.
            let rich = 3 + 4 * (number % 3);
            let poor = rich + 1;
            for (way, node) in WAYS.iter().zip(self.nodes.iter().cycle().skip(number as usize)) {
                self.move_host(facts, *node, (rich, poor), *way).await?;
                let (from, to) = (self.instance(rich)?, self.instance(poor)?);
                let moved = to.hosts.last().filter(|host| !from.hosts.contains(host));
                facts.require(moved.is_some(), || format!("no host moved from {} to {}", from.id, to.id));
            }
            for node in self.nodes.iter().cycle().take(2) {
                self.move_host(facts, *node, (poor, rich), Way::WriteThrough).await?;
            }
            for (way, node) in WAYS.iter().zip(self.nodes.iter().cycle().skip(number as usize)) {
                self.drop_host(facts, *node, rich, *way).await?;
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        drop(crowd);
        self.compare(facts).await?;
        facts.require_applied();
        facts.tell("hosts moved from one instance to another and back, and were taken away and given back, during steady reading");
        Ok(())
    }

    pub(super) async fn delete_and_make_again(&self, facts: &mut Facts) -> Told {
        let mut made_again = Vec::new();
        for (number, node) in (41..=50).zip(self.nodes.iter().cycle()) {
            let before = self.instance(number)?;
            let keys: Vec<_> = InstanceKey::all_of(&before).collect();
            let deleted = self.identity.delete(*node, &before.id).await?;
            facts.changed(deleted.map_or(Delivery::Deferred, |(_, delivery)| delivery));
            for node in &self.nodes {
                for key in &keys {
                    let found = self.identity.look_up(*node, key).await?.instance;
                    facts.require(found.is_none(), || format!("node {}: {key} leads to a deleted instance", node + 1));
                }
            }
            made_again.push(before);
        }
        for (before, node) in made_again.into_iter().zip(self.nodes.iter().cycle()) {
            let edit = Edit {
                name: Some(before.name),
                hosts: Some(before.hosts),
                features: Some(before.features),
                settings: Some(before.settings),
            };
            let changed = self.identity.change(*node, &before.id, edit, Way::WriteThrough).await?;
            self.follow(facts, &changed).await?;
        }
        self.compare(facts).await?;
        facts.require_applied();
        facts.tell("instances were deleted in the database and invalidated, then made again");
        Ok(())
    }

    /// A load reads the row before a change, and fills after the change.
    pub(super) async fn slow_load(&self, facts: &mut Facts) -> Told {
        let (first, last) = (0, self.nodes.len() - 1);
        for number in 51..=60 {
            let before = self.instance(number)?;
            let host = before.hosts.last().ok_or_else(|| StoryError::NoInstance(before.id.clone()))?;
            let slow = self.identity.node(last)?;
            slow.cache.invalidate(Instance::HOST, [host]).await.map_err(IdentityError::from)?;
            // The load is by host. The change below invalidates by id.
            let Lookup::Miss { ticket: Some(ticket), .. } = slow.cache.lookup(Instance::HOST, host).await else {
                return Err(StoryError::NoTicket);
            };
            let row = self.identity.source.load(&InstanceKey::host(host)).await;
            // Nobody reads between the change and the fill, so no newer version is stored, and only a fence can refuse the fill.
            let name = Some(next_name(&before.name));
            let edit = Edit { name, ..Edit::default() };
            let changed = self.identity.change(first, &before.id, edit, Way::Invalidate).await?;
            let row = row.ok_or_else(|| StoryError::NoInstance(before.id.clone()))?;
            let fill = slow.cache.fill(row, ticket).await;
            facts.require(fill == Stored::Overtaken, || {
                format!("a load that a change had overtaken was not refused: {fill:?}")
            });
            self.follow(facts, &changed).await?;
        }
        self.compare(facts).await?;
        facts.require_applied();
        facts.tell("fills of loads that began before a change and ended after it were refused");
        Ok(())
    }

    pub(super) async fn compare_all(&self, facts: &mut Facts) -> Told {
        facts.keys = self.keys.to_vec();
        self.compare(facts).await?;
        facts.tell("at the end every node answers what the database has, for every key");
        Ok(())
    }
}
