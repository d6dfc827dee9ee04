//! `Caches::ready`: who is waited for, for how long, and what is said of those that cannot be read.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end where what they expect does not hold")]

use larder::{Cache, Caches, Config, Entry};
use serde::{Deserialize, Serialize};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "instance")]
struct Instance {
    #[key(primary)]
    id: u32,
}

#[derive(Clone, Serialize, Deserialize, Entry)]
#[entry(cache = "organization")]
struct Organization {
    #[key(primary)]
    id: u32,
}

async fn caches(yaml: &str) -> Caches {
    Caches::from_config(Config::from_yaml(yaml).unwrap()).await.unwrap()
}

#[tokio::test]
async fn what_is_in_memory_or_switched_off_is_ready_at_once() {
    let caches = caches("caches: { instance: { connector: memory }, organization: { connector: none } }").await;
    assert!(caches.ready(Duration::ZERO).await.is_ready(), "nothing is open");
    let _instances: Cache<Instance> = caches.open().unwrap();
    let _organizations: Cache<Organization> = caches.open().unwrap();
    for limit in [Duration::ZERO, Duration::MAX] {
        let readiness = caches.ready(limit).await;
        assert!(readiness.is_ready(), "{readiness}");
        assert_eq!(readiness.unreadable().count(), 0);
    }
    caches.shutdown().await;
    assert!(caches.ready(Duration::ZERO).await.is_ready(), "nothing is open any more");
}

/// Its timers belong to the runtime of the caches, not to who awaits it.
#[test]
fn it_may_be_awaited_outside_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let caches = runtime.block_on(caches("defaults: { connector: memory }"));
    let mut ready = Box::pin(caches.ready(Duration::from_secs(1)));
    let Poll::Ready(readiness) = ready.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("memory is ready at once");
    };
    assert!(readiness.is_ready());
}

#[cfg(feature = "redis")]
mod redis {
    use super::*;
    use larder::Stored;
    use larder_testing::server::{Server, ServerOptions, required};
    use std::path::Path;
    use std::sync::Arc;

    /// No test waits for so long.
    const LONG: Duration = Duration::from_secs(300);

    fn on_redis(socket: &Path) -> String {
        // Time-outs that no test waits for.
        format!(
            "
            connectors: {{ redis: {{ socket: '{}', connect_timeout: 20s, operation_timeout: 20s, breaker: {{ slow_call: 0 }} }} }}
            caches: {{ instance: {{ connector: redis }}, organization: {{ connector: memory }} }}
            ",
            socket.display()
        )
    }

    async fn servers() -> Vec<Server> {
        let mut servers = Vec::new();
        for binary in required().unwrap() {
            servers.push(Server::start(&binary, ServerOptions::default()).await.unwrap());
        }
        servers
    }

    #[tokio::test]
    async fn who_waits_can_read_from_the_first_request_on() {
        for server in servers().await {
            let caches = caches(&on_redis(server.socket())).await;
            let instances: Cache<Instance> = caches.open().unwrap();
            let _organizations: Cache<Organization> = caches.open().unwrap();
            let readiness = caches.ready(LONG).await;
            assert!(readiness.is_ready(), "{readiness}");
            assert!(instances.status().readable);
            assert_eq!(instances.set(Instance { id: 1 }).await, Stored::Accepted);
            assert_eq!(instances.get(Instance::ID, 1).await.as_deref(), Some(&Instance { id: 1 }));
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("nobody");
        let caches = caches(&on_redis(&socket)).await;
        let _instances: Cache<Instance> = caches.open().unwrap();
        let _organizations: Cache<Organization> = caches.open().unwrap();
        for limit in [Duration::ZERO, Duration::from_millis(50)] {
            let readiness = caches.ready(limit).await;
            let unreadable: Vec<_> = readiness.unreadable().collect();
            let [(cache, why)] = unreadable.as_slice() else { panic!("{readiness}") };
            assert_eq!(*cache, "instance");
            assert!(why.contains(&format!("server at {}", socket.display())), "{why}");
            assert_eq!(readiness.to_string(), format!("cannot be read: `instance`, because {why}"));
        }
    }

    /// A cache that is opened while one waits is waited for, too; and who goes away takes nothing along.
    #[tokio::test]
    async fn it_waits_until_the_server_is_there() {
        for server in servers().await {
            server.kill();
            let caches = Arc::new(caches(&on_redis(server.socket())).await);
            let instances: Cache<Instance> = caches.open().unwrap();
            assert!(!caches.ready(Duration::ZERO).await.is_ready());
            let waiting = tokio::spawn({
                let caches = caches.clone();
                async move { caches.ready(LONG).await }
            });
            let gone = tokio::time::timeout(Duration::from_millis(30), caches.ready(LONG)).await;
            assert!(gone.is_err() && !waiting.is_finished(), "there is no server yet");
            server.restart().await.unwrap();
            assert!(waiting.await.unwrap().is_ready());
            assert!(instances.status().readable);
        }
    }
}
