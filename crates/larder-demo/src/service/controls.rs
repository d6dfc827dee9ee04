//! The page's buttons.

use super::events::Kind;
use super::routes::Failed;
use super::{NODE, Service, count};
use crate::checker::Verdict;
use crate::identity::{Changed, IdentityError, Way};
use crate::instance::{Instance, InstanceKey};
use crate::load::{Done, Load, Rates, next_name};
use crate::meter::Origin;
use crate::node::Node;
use crate::own_server::OwnServerError;
use crate::source::Edit;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use larder::Delivery;
use larder::breaker::{self, Breaker};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The highest rates of the generator, per second.
const MOST: Rates = Rates { lookups: 50_000, changes: 500 };

/// A new load is tried for this many seconds. In one of them it must reach four fifths of its rates.
const SECONDS_TRIED: u32 = 3;

/// How often an answer that differs from the database is read again: somebody else may be changing the instance.
const PATIENCE: usize = 20;

/// The demo's server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ServerState {
    /// There is no server, or it is not the demo's own.
    NotOurs,
    Running,
    Stopped,
    Killed,
}

/// The wanted state of the load generator.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    on: bool,
    lookups: u32,
    changes: u32,
}

pub(super) async fn generator(
    State(service): State<Arc<Service>>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<(), Failed> {
    let Json(wanted) = wanted?;
    let rates = Rates { lookups: wanted.lookups, changes: wanted.changes };
    if rates.lookups > MOST.lookups || rates.changes > MOST.changes {
        let Rates { lookups, changes } = MOST;
        return Err(Failed::invalid(format!(
            "at most {lookups} lookups and {changes} changes per second are possible"
        )));
    }
    let start = |rates: Rates| {
        Load::start(&service.identity, &service.nodes(), &service.keys, rates.on_each(service.nodes().len()))
    };
    let (before, done) = {
        let mut generator = service.generator();
        let before = (generator.running.is_some(), generator.rates);
        if (wanted.on, rates) == before {
            return Ok(());
        }
        generator.rates = rates;
        generator.running = wanted.on.then(|| start(rates));
        (before, generator.running.as_ref().map(|load| load.done().clone()))
    };
    let Some(done) = done else { return Ok(()) };
    let Err((lookups, changes)) = keeps_up(&done, rates).await else { return Ok(()) };
    let mut generator = service.generator();
    // Unless another request has changed the load meanwhile.
    if generator.running.as_ref().is_some_and(|load| Arc::ptr_eq(load.done(), &done)) {
        generator.rates = before.1;
        generator.running = before.0.then(|| start(before.1));
    }
    Err(Failed::conflict(format!(
        "{} lookups and {} changes per second cannot be reached now, only {lookups} and {changes}. The load is as before",
        rates.lookups, rates.changes
    )))
}

/// Checks whether a new load reaches most of its rates.
///
/// # Errors
///
/// The numbers of lookups and changes in the best second.
async fn keeps_up(done: &Done, rates: Rates) -> Result<(), (u64, u64)> {
    let mut best = (0, 0);
    for _ in 0..SECONDS_TRIED {
        let before = done.so_far();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = done.so_far();
        let (lookups, changes) = (now.0 - before.0, now.1 - before.1);
        // A small load may be short of one or two calls.
        let enough = |done: u64, asked: u32| done + 2 >= u64::from(asked) * 4 / 5;
        if enough(lookups, rates.lookups) && enough(changes, rates.changes) {
            return Ok(());
        }
        best = best.max((lookups, changes));
    }
    Err(best)
}

/// The outcome of a change, and of the reads by every key that followed it.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// The change in words.
    did: String,
    delivery: &'static str,
    /// How much was deferred so far. Once the page's figures show at least this count and an empty journal, the change was delivered.
    deferred: u64,
    /// The number of keys that were read, each on every node.
    reads: usize,
    nodes: usize,
    hits: usize,
    /// The number of reads that differed from the database.
    stale: usize,
}

pub(super) async fn rename(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
) -> Result<Json<Outcome>, Failed> {
    let instance = existing(&service, &id)?;
    let name = next_name(&instance.name);
    let did = format!("{id} is now called {name}");
    let changed = service.identity.change(NODE, &id, Edit { name: Some(name), ..Edit::default() }, Way::WriteThrough);
    follow(&service, did, changed.await?).await
}

/// Moves the last host of an instance to its neighbour in the page's table.
pub(super) async fn move_host(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
) -> Result<Json<Outcome>, Failed> {
    let from = existing(&service, &id)?;
    let Some(host) = from.hosts.last() else { return Err(Failed::conflict(format!("{id} has no host to move"))) };
    let neighbours = service.identity.source.first(super::live::ROWS);
    let place = neighbours.iter().position(|neighbour| neighbour.id == id).map_or(0, |place| place + 1);
    let Some(to) = neighbours.get(place).or(neighbours.first()).filter(|to| to.id != id) else {
        return Err(Failed::conflict("there is no other instance"));
    };
    let did = format!("{host} moved from {id} to {}", to.id);
    let hosts = Some(to.hosts.iter().chain([host]).cloned().collect());
    let changed = service.identity.change(NODE, &to.id, Edit { hosts, ..Edit::default() }, Way::Invalidate);
    follow(&service, did, changed.await?).await
}

fn existing(service: &Service, id: &str) -> Result<Instance, Failed> {
    service
        .identity
        .source
        .find(&InstanceKey::id(id))
        .ok_or_else(|| Failed::not_found(format!("no instance has the id {id}")))
}

/// Looks up every key that the change has touched, on every node, and compares with the database.
async fn follow(service: &Service, did: String, changed: Changed) -> Result<Json<Outcome>, Failed> {
    let keys = changed.written.keys();
    let delivery = match changed.delivery {
        Delivery::Applied => "applied",
        Delivery::Deferred => "deferred",
    };
    let deferred = service.identity.sum(Node::deferred);
    // Another node cannot know of a change that is deferred.
    let nodes = if changed.delivery == Delivery::Applied { service.nodes() } else { vec![NODE] };
    let mut outcome = Outcome { did, delivery, deferred, reads: keys.len(), nodes: nodes.len(), hits: 0, stale: 0 };
    for node in nodes {
        for key in &keys {
            let (origin, fresh) = read(service, node, key).await?;
            outcome.hits += usize::from(origin == Origin::Hit);
            outcome.stale += usize::from(!fresh);
        }
    }
    let verdict = if outcome.stale == 0 { "all fresh".to_owned() } else { format!("{} STALE", outcome.stale) };
    let read = format!("read by {} on {}", count(outcome.reads, "key"), count(outcome.nodes, "node"));
    service.events.tell(Kind::Change, format!("{} ({delivery}); {read}: {verdict}", outcome.did));
    Ok(Json(outcome))
}

/// Looks up a key. Returns the origin of the answer, and whether the answer equals the database's. If they differ because the load generator
/// changes the same instance, both are read again.
async fn read(service: &Service, node: usize, key: &InstanceKey) -> Result<(Origin, bool), IdentityError> {
    let mut origin = Origin::Load;
    for _ in 0..PATIENCE {
        let looked = service.identity.look_up(node, key).await?;
        origin = looked.origin;
        if looked.verdict != Verdict::Fine {
            break;
        }
        if looked.instance.as_deref() == service.identity.source.find(key).as_ref() {
            return Ok((origin, true));
        }
    }
    Ok((origin, false))
}

/// Breaks the demo's own server, or mends it. Returns when the cache tries the server again.
pub(super) async fn server(
    State(service): State<Arc<Service>>,
    Path(action): Path<String>,
) -> Result<Json<Link>, Failed> {
    let refused = |error: OwnServerError| Failed::conflict(error.to_string());
    let Some(server) = service.backend.server() else {
        return Err(Failed::conflict(
            "the demo has no server of its own; start it with --connector redis, tiered, tiered-sentinel, tiered-cluster or postgres",
        ));
    };
    // Until every node reads the cache again, nodes may be cut off from it without knowing: see the checker.
    service.identity.cut(true);
    let (done, state, said) = match action.as_str() {
        "stop" => (server.stop().await, ServerState::Stopped, "the server is stopped: it hangs (SIGSTOP)"),
        "continue" => (server.cont(), ServerState::Running, "the server continues (SIGCONT)"),
        "kill" => (server.kill().await, ServerState::Killed, "the server is killed (SIGKILL)"),
        "restart" => (server.restart().await, ServerState::Running, "the server is started again, empty"),
        "flush" => (server.flush().await, ServerState::Running, "the server has forgotten everything (FLUSHALL)"),
        other => return Err(Failed::not_found(format!("{other} is none of stop, continue, kill, restart, flush"))),
    };
    done.map_err(refused)?;
    *service.server_state() = state;
    let link = Link::of(&service)?;
    let tried = match link.next_trial_ms {
        Some(wait) if state == ServerState::Running => {
            format!("; it is tried again in {:.1} s", wait.div_ceil(100) as f64 / 10.0)
        }
        _ => String::new(),
    };
    service.events.tell(Kind::Server, format!("{said}{tried}"));
    Ok(Json(link))
}

/// The state of the demo's server, and of the connection to it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Link {
    pub(super) server: ServerState,
    /// Whether the cache can be read.
    pub(super) readable: bool,
    pub(super) breaker: Option<&'static str>,
    /// How long the breaker still refuses all calls, in milliseconds. `null`: it does not refuse.
    pub(super) next_trial_ms: Option<u64>,
}

impl Link {
    pub(super) fn of(service: &Service) -> Result<Self, IdentityError> {
        let node = service.identity.node(NODE)?;
        let (status, wait) = (node.cache.status(), node.breaker().and_then(Breaker::next_probe_in));
        Ok(Self {
            server: *service.server_state(),
            readable: status.readable,
            breaker: status.breaker.map(breaker::State::name),
            next_trial_ms: wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}
