//! A new kind of server is one trait and its own commands: a connector for a server of this test's own, built on
//! `larder::connector::remote`, keeps the contract, outages included.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod connector;
mod server;

use connector::{Toy, ToyConnector, open};
use larder::breaker::BreakerOptions;
use larder::clock::{Clock, ManualClock};
use larder::connector::remote::{Channel, Server, ServerOptions, Trouble};
use larder::{Connector, Schema};
use larder_testing::conformance::Ability::{No, Yes};
use larder_testing::conformance::{Nature, Subject};
use larder_testing::model::{self, Settings};
use server::ToyServer;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

larder_testing::conformance! { Shared::new() }

/// The steps of a truncate must all reach one and the same server, and a connector of one's own needs that for its own steps.
#[tokio::test]
async fn what_is_pinned_to_a_connection_is_sent_on_no_other() {
    let subject = Shared::new();
    let link = subject.nodes[0].link();
    while link.generation() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let generation = link.generation();
    let this = Channel::Pinned { link, generation };
    assert!(this.run(|_| async { Ok(()) }).await.is_ok());
    let another = Channel::Pinned { link, generation: generation + 1 };
    let mut sent = false;
    let answer = another.run(|_| {
        sent = true;
        async { Ok(()) }
    });
    assert!(matches!(answer.await, Err(Trouble::Unavailable)));
    assert!(!sent);
}

/// Callers may be in no runtime.
#[test]
fn who_waits_on_a_channel_need_be_in_no_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let subject = runtime.block_on(async { Shared::new() });
    let channel = Channel::Shared(subject.nodes[0].link());
    let until = tokio::time::Instant::now() + Duration::from_millis(1);
    let mut waits = pin!(channel.wait_until(until));
    while waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        std::thread::yield_now();
    }
    assert!(tokio::time::Instant::now() >= until);
}

#[tokio::test]
async fn random_operations() {
    model::run(&Shared::new(), &Settings::default()).await;
}

/// One server, and two nodes that are connected to it.
struct Shared {
    server: Mutex<ToyServer>,
    hand: ManualClock,
    nodes: [Server<Toy>; 2],
}

impl Shared {
    fn new() -> Self {
        let (clock, hand) = Clock::manual();
        let server = ToyServer::start(clock);
        // The suite counts on time-outs that never fire, however slow the machine is.
        let patience = Duration::from_secs(20);
        let breaker = BreakerOptions::for_server().slow_call(patience);
        let options = ServerOptions::new().operation_timeout(patience).connect_timeout(patience).breaker(breaker);
        let node = || open(server.socket(), options.clone());
        let nodes = [node(), node()];
        Self { nodes, server: Mutex::new(server), hand }
    }
}

impl Subject for Shared {
    fn nature(&self) -> Nature {
        Nature {
            shared: Yes,
            exact_time: Yes,
            bytes: No("the toy server keeps objects where nobody can damage them"),
            evicts: No("the toy server has room for everything"),
            leases: No("the toy server grants none"),
            absences: No("the toy server remembers nothing of what does not exist"),
            expired: No("the toy server removes an object when its max age is over"),
            outages: Yes,
            at_once: Yes,
        }
    }

    async fn open(&self, node: usize, schema: Schema) -> Arc<dyn Connector> {
        let connector = ToyConnector::open(&self.nodes[node], schema).unwrap();
        let begun = Instant::now();
        while !connector.status().readable {
            assert!(begun.elapsed() < Duration::from_secs(30), "it cannot be read: {:?}", connector.status());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Arc::new(connector)
    }

    async fn pass(&self, time: Duration) {
        self.hand.advance(time);
        // The nodes' own clocks are real: they reconnect while time passes for the server.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    async fn interrupt(&self) {
        self.server.lock().await.cut_off().await;
    }

    async fn mend(&self) {
        self.server.lock().await.let_in();
    }
}
