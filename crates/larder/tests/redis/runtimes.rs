//! A connector lives in the runtime it was opened in, and may be used from anywhere.

use crate::instance::{Instance, instance};
use crate::node::{Node, servers};
use larder::{Delivery, Stored};
use larder_testing::server::ServerOptions;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future without a runtime.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park_timeout(Duration::from_secs(1)),
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn a_connector_is_used_outside_any_runtime() {
    let home = runtime();
    for server in home.block_on(servers(ServerOptions::default())) {
        let node = home.block_on(Node::on(&server));
        assert_eq!(wait(node.cache.set(instance("1", &["a"], "x"))), Stored::Accepted);
        assert!(wait(node.by_host("a")).is_some());
        server.stop().unwrap();
        assert!(wait(node.by_host("a")).is_none(), "after the time-out");
        server.cont().unwrap();
    }
}

#[test]
fn a_connector_outlives_the_runtime_it_was_opened_in() {
    let (home, away) = (runtime(), runtime());
    for server in away.block_on(servers(ServerOptions::default())) {
        let node = home.block_on(Node::on(&server));
        assert_eq!(away.block_on(node.cache.set(instance("1", &["a"], "x"))), Stored::Accepted);
    }
    let servers = away.block_on(servers(ServerOptions::default()));
    let nodes: Vec<_> = servers.iter().map(|server| home.block_on(Node::on(server))).collect();
    drop(home);
    for node in &nodes {
        for _ in 0..20 {
            assert!(away.block_on(node.by_host("a")).is_none());
            assert!(wait(node.by_host("a")).is_none());
            let deferred = away.block_on(node.cache.invalidate(Instance::ID, ["1"]));
            assert_eq!(deferred.unwrap(), Delivery::Deferred);
        }
        assert_eq!(wait(node.cache.set(instance("1", &["a"], "x"))), Stored::Unavailable);
        assert!(!node.cache.status().readable);
    }
}
