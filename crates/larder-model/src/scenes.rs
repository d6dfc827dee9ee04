//! The configurations that are checked. Each has a few tasks on two nodes, and some faults. One configuration with everything would have
//! too many states, so it could have only fewer tasks and faults of each kind.
//!
//! Each configuration has a small size, which the tests check, and a large size for the command. [`proofs`] says which configuration finds
//! the fault when a protection is removed.
//!
//! One file has the configurations of one family: what each is called, and its tasks and faults at both sizes.

use crate::check::{Report, Violation, check, shortest};
use crate::cluster::{Cluster, ClusterScene};
use crate::feed::{Feed, FeedScene};
use crate::postgres::{Postgres, PostgresScene};
use crate::protections::Removed;
use crate::source::{Change, Keys, Object};
use crate::standalone::{Scene, Standalone};
use crate::tiers::{Tiers, TiersScene};

mod cluster;
mod feed;
mod postgres;
pub mod proofs;
mod standalone;
mod tiers;

/// How much is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Seconds for all configurations together.
    Small,
    /// Minutes.
    Large,
}

/// A configuration.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The name on the command line.
    pub name: &'static str,
    /// What the configuration checks, in one line.
    pub about: &'static str,
    /// The properties that must be reached: if nothing can happen, the check shows nothing.
    pub reaches: &'static [&'static str],
    scene: fn(Size) -> Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Standalone(Scene),
    Cluster(ClusterScene),
    Postgres(PostgresScene),
    Feed(FeedScene),
    Tiers(TiersScene),
}

impl Config {
    /// The configuration with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        configs().find(|config| config.name == name)
    }

    /// Explores all states of the configuration, or stops when a promise is broken.
    #[must_use]
    pub fn check(&self, size: Size, removed: Removed, threads: usize) -> Report {
        match (self.scene)(size) {
            Kind::Standalone(scene) => check(Standalone::new(scene, removed, true), threads),
            Kind::Cluster(scene) => check(Cluster::new(scene, removed, true), threads),
            Kind::Postgres(scene) => check(Postgres::new(scene, removed), threads),
            Kind::Feed(scene) => check(Feed::new(scene, removed, true), threads),
            Kind::Tiers(scene) => check(Tiers::new(scene, removed, true), threads),
        }
    }

    /// The shortest way to break a promise, if there is one.
    #[must_use]
    pub fn shortest(&self, size: Size, removed: Removed) -> Option<Violation> {
        match (self.scene)(size) {
            Kind::Standalone(scene) => shortest(&Standalone::new(scene, removed, false)),
            Kind::Cluster(scene) => shortest(&Cluster::new(scene, removed, false)),
            Kind::Postgres(scene) => shortest(&Postgres::new(scene, removed)),
            Kind::Feed(scene) => shortest(&Feed::new(scene, removed, false)),
            Kind::Tiers(scene) => shortest(&Tiers::new(scene, removed, false)),
        }
    }
}

/// All configurations, one family after the other.
pub fn configs() -> impl Iterator<Item = &'static Config> {
    [standalone::CONFIGS, cluster::CONFIGS, postgres::CONFIGS, feed::CONFIGS, tiers::CONFIGS].into_iter().flatten()
}

const HIT: &str = "a read hits";
const ACCEPTED: &str = "a fill is accepted";
const REFUSED: &str = "a fill is refused";

const P: Keys = Keys::P;
const Q: Keys = Keys::Q;
const H: Keys = Keys::H;
const CHANGE_P: Change = Change::Value(Object::P);
const CHANGE_Q: Change = Change::Value(Object::Q);
const MOVE: Change = Change::Move;
