//! Coming into contact: servers that are down, old-fashioned, guarded or garbled.

use crate::instance::{Instance, instance};
use crate::node::{Node, config, servers, until};
use larder::breaker::State;
use larder::connector::Secret;
use larder::connector::redis::Address;
use larder::connector::redis::Redis;
use larder::{Delivery, Stored};
use larder_testing::proxy::{Direction, Fault, Proxy};
use larder_testing::server::{ScriptedServer, ServerOptions};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// zitadel 9022, 9150: the client had retried with EVAL, but the breaker counted the NOSCRIPT and opened at first start.
#[tokio::test]
async fn noscript_at_first_start_does_not_open_the_breaker() {
    for server in servers(ServerOptions::default()).await {
        let mut config = config(server.socket());
        config.breaker.consecutive_failures = 1;
        let node = Node::begin(config);
        node.readable().await;
        for flush in [false, true] {
            if flush {
                server.script_flush().await.unwrap();
            }
            node.set("1", &["a"], "first").await;
            let big = instance("2", &["b"], &"x".repeat(20_000));
            if flush {
                server.script_flush().await.unwrap();
            }
            assert_eq!(node.cache.set(big.clone()).await, Stored::Accepted, "large objects go another way");
            assert_eq!(node.by_host("b").await.as_deref(), Some(&big));
            if flush {
                server.script_flush().await.unwrap();
            }
            assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
            if flush {
                server.script_flush().await.unwrap();
            }
            assert_eq!(node.cache.delete(Instance::HOST, ["b"]).await.unwrap(), Delivery::Applied);
            assert!(node.by_id("1").await.is_none());
        }
        assert_eq!(node.redis.breaker().state(), State::Closed);
        assert_eq!(node.redis.breaker().snapshot().failures, 0, "a repaired NOSCRIPT is a success");
        assert_eq!(node.cache.stats().faults.get(), 0);
    }
}

/// zitadel 11483, 12092: a handshake command that the server did not know counted as a failure, 1 of 1, for ever.
#[tokio::test]
async fn a_handshake_command_the_server_does_not_know_is_no_failure() {
    let options = ServerOptions::default().config("rename-command HELLO \"\"").config("rename-command CLIENT \"\"");
    for server in servers(options).await {
        let mut config = config(server.socket());
        config.breaker.consecutive_failures = 1;
        config.client_name = Some("larder-test".to_owned());
        let node = Node::begin(config);
        node.readable().await;
        node.set("1", &["a"], "over RESP2").await;
        assert!(node.by_host("a").await.is_some());
        assert_eq!(node.redis.breaker().state(), State::Closed);
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_a_normal_start() {
    for server in servers(ServerOptions::default()).await {
        server.kill();
        let node = Node::begin(config(server.socket()));
        assert!(node.by_host("a").await.is_none());
        assert_eq!(node.cache.set(instance("1", &["a"], "lost")).await, Stored::Unavailable);
        assert_eq!(node.cache.invalidate(Instance::ID, ["2"]).await.unwrap(), Delivery::Deferred);
        assert_eq!(node.cache.status().journal, 3, "the keys of the set, and the invalidation");
        server.restart().await.unwrap();
        node.readable().await;
        assert_eq!(node.cache.status().journal, 0);
        node.set("1", &["a"], "found").await;
        assert!(node.by_host("a").await.is_some());
    }
}

#[tokio::test]
async fn tcp_a_database_and_an_acl_user_with_few_rights() {
    let options = ServerOptions::default().tcp().config(
        "user larder on >opensesame ~larder:* +get +getrange +set +evalsha +eval +unlink +scan +ping +select +hello \
         +bitfield +setrange +mget +rename +exists +persist +pexpire +pttl +time +auth",
    );
    for server in servers(options).await {
        let mut config = config(server.socket());
        config.address = Address::Tcp { host: "127.0.0.1".to_owned(), port: server.port().unwrap() };
        config.database = 3;
        config.username = Some("larder".to_owned());
        config.password = Some(Secret::new("opensesame"));
        let node = Node::begin(config);
        node.readable().await;
        node.set("1", &["a"], "guarded").await;
        let big = instance("2", &["b"], &"x".repeat(20_000));
        assert_eq!(node.cache.set(big).await, Stored::Accepted);
        assert!(node.by_host("a").await.is_some());
        assert_eq!(node.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
        assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied);
        assert!(server.keys("larder:*").await.unwrap().is_empty(), "nothing in database 0");
        assert_eq!(node.redis.breaker().state(), State::Closed, "INFO and CLIENT are forbidden, and not needed");
    }
}

#[tokio::test]
async fn a_wrong_password_opens_the_breaker_at_once_and_is_never_shown() {
    for server in servers(ServerOptions::default().config("requirepass opensesame")).await {
        let mut config = config(server.socket());
        config.password = Some(Secret::new("open-barley"));
        let redis = Redis::open(config).unwrap();
        until("the breaker is open", || redis.breaker().state() == State::Open).await;
        let shown = format!("{redis:?} {:?}", redis.breaker().snapshot());
        assert!(!shown.contains("open-barley") && !shown.contains("opensesame"), "{shown}");
    }
}

#[tokio::test]
async fn a_server_that_is_loading_opens_the_breaker_and_is_never_read() {
    let server = ScriptedServer::start(|words| match words[0].to_ascii_uppercase().as_slice() {
        b"HELLO" => b"-ERR unknown command 'HELLO'\r\n".to_vec(),
        b"CLIENT" => b"+OK\r\n".to_vec(),
        _ => b"-LOADING Redis is loading the dataset in memory\r\n".to_vec(),
    })
    .await
    .unwrap();
    let node = Node::begin(config(server.socket()));
    until("the breaker is open", || node.redis.breaker().state() == State::Open).await;
    assert!(node.by_id("1").await.is_none());
    assert!(!node.cache.status().readable);
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_with_a_reason() {
    let server = ScriptedServer::start(|words| match words[0].to_ascii_uppercase().as_slice() {
        b"HELLO" => b"-ERR unknown command 'HELLO'\r\n".to_vec(),
        b"PING" => b"+PONG\r\n".to_vec(),
        b"EVAL" => b":1\r\n".to_vec(),
        b"INFO" => b"$22\r\nredis_version:6.0.16\r\n\r\n".to_vec(),
        _ => b"+OK\r\n".to_vec(),
    })
    .await
    .unwrap();
    let redis = Redis::open(config(server.socket())).unwrap();
    until("the breaker is open", || redis.breaker().state() == State::Open).await;
}

/// A cluster would answer a part of what is sent, and CROSSSLOT to the rest. (Scripted, since every real one takes the same port
/// for its bus.)
#[tokio::test]
async fn a_cluster_is_refused_with_a_reason() {
    let server = ScriptedServer::start(|words| match words[0].to_ascii_uppercase().as_slice() {
        b"HELLO" => b"-ERR unknown command 'HELLO'\r\n".to_vec(),
        b"PING" => b"+PONG\r\n".to_vec(),
        b"EVAL" => b":1\r\n".to_vec(),
        b"INFO" => b"$43\r\nredis_version:7.4.0\r\nredis_mode:cluster\r\n\r\n\r\n".to_vec(),
        _ => b"+OK\r\n".to_vec(),
    })
    .await
    .unwrap();
    let redis = Redis::open(config(server.socket())).unwrap();
    let causes = causes(&redis);
    until("the breaker is open", || redis.breaker().state() == State::Open).await;
    let causes = causes.lock().unwrap().join("; ");
    assert!(causes.contains("this server is a node of a cluster"), "{causes}");
}

#[tokio::test]
async fn a_server_whose_calls_are_slow_opens_the_breaker() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let mut config = config(proxy.socket());
        config.operation_timeout = Duration::from_secs(20);
        config.breaker.slow_call = Duration::from_millis(20);
        let node = Node::begin(config);
        node.readable().await;
        let causes = causes(&node.redis);
        proxy.set(Direction::ToClient, Fault::Delay(Duration::from_millis(30)));
        while node.redis.breaker().state() == State::Closed {
            node.by_host("a").await;
        }
        let causes = causes.lock().unwrap().join("; ");
        assert!(causes.contains("calls were slow"), "{causes}");
        assert!(node.redis.latencies().quantile(0.5).unwrap() >= 20_000);
    }
}

/// A database that does not exist, a server that takes no more clients, a proxy that knows no protocol of ours: each attempt fails,
/// and however often it is tried that is not a success.
#[tokio::test]
async fn a_server_that_lets_nobody_in_opens_the_breaker() {
    for server in servers(ServerOptions::default().databases(1)).await {
        let mut config = config(server.socket());
        config.database = 7;
        let redis = Redis::open(config).unwrap();
        until("the breaker is open", || redis.breaker().state() == State::Open).await;
    }
    let refusals = [
        "-ERR max number of clients reached\r\n",
        "-DENIED Redis is running in protected mode because protected mode is enabled\r\n",
        "-NOPROTO unsupported protocol version\r\n",
    ];
    for refusal in refusals {
        let server = ScriptedServer::start(|_| refusal.as_bytes().to_vec()).await.unwrap();
        let mut config = config(server.socket());
        config.breaker.open = Duration::from_millis(50);
        (config.breaker.open_max, config.breaker.open_refused) = (config.breaker.open, config.breaker.open);
        let redis = Redis::open(config).unwrap();
        let causes = causes(&redis);
        // Nor does it close between two attempts.
        until("it was tried again", || causes.lock().unwrap().len() > 3).await;
        let causes = causes.lock().unwrap().join("; ");
        assert!(!causes.contains("→ closed") && !causes.contains("→ ramping"), "{causes}");
    }
}

#[tokio::test]
async fn a_password_without_a_user_is_that_of_the_default_user() {
    let hello = "rename-command HELLO \"\"";
    for options in [ServerOptions::default(), ServerOptions::default().config(hello)] {
        for server in servers(options.config("requirepass opensesame")).await {
            let mut config = config(server.socket());
            config.password = Some(Secret::new("opensesame"));
            let node = Node::begin(config);
            node.readable().await;
            node.set("1", &["a"], "x").await;
        }
    }
}

#[tokio::test]
async fn a_full_server_is_a_normal_start() {
    for server in servers(ServerOptions::default().config("maxmemory 1mb")).await {
        let node = Node::begin(config(server.socket()));
        node.readable().await;
        assert_eq!(node.cache.set(instance("1", &["a"], "x")).await, Stored::Full);
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Applied);
    }
}

/// One place for operations under way is enough for every operation.
#[tokio::test]
async fn one_operation_at_a_time_and_a_journal_of_one_key() {
    for server in servers(ServerOptions::default()).await {
        let mut config = config(server.socket());
        (config.max_in_flight, config.journal_limit, config.hints) = (1, 1, 1);
        let node = Node::begin(config);
        node.readable().await;
        node.set("1", &["a", "b"], "x").await;
        let big = instance("2", &["c"], &"x".repeat(20_000));
        assert_eq!(node.cache.set(big).await, Stored::Accepted);
        assert!(node.by_host("a").await.is_some());
        assert!(node.by_host("c").await.is_some());
        server.kill();
        until("the connection is gone", || !node.cache.status().readable).await;
        assert_eq!(node.cache.invalidate(Instance::HOST, ["a", "b"]).await.unwrap(), Delivery::Deferred);
        assert_eq!(node.cache.invalidate(Instance::HOST, [""; 0]).await.unwrap(), Delivery::Applied, "nothing to do");
        server.restart().await.unwrap();
        node.readable().await;
        assert_eq!(node.cache.truncate().await.unwrap(), Delivery::Applied);
    }
}

/// What the breaker says of its changes.
fn causes(redis: &Redis) -> Arc<Mutex<Vec<String>>> {
    let causes = Arc::<Mutex<Vec<String>>>::default();
    let heard = causes.clone();
    redis.breaker().subscribe(move |transition| heard.lock().unwrap().push(transition.to_string()));
    causes
}

#[tokio::test]
async fn garbled_replies_are_never_an_object() {
    for server in servers(ServerOptions::default()).await {
        let proxy = Proxy::start(&server).await.unwrap();
        let node = Node::begin(config(proxy.socket()));
        node.readable().await;
        let stored = instance("1", &["a"], &"x".repeat(300));
        assert_eq!(node.cache.set(stored.clone()).await, Stored::Accepted);
        for seed in 0..20 {
            proxy.set(Direction::ToClient, Fault::Corrupt { seed, one_in: 50 });
            for _ in 0..20 {
                if let Some(found) = node.by_host("a").await {
                    assert_eq!(*found, stored);
                }
            }
        }
        proxy.set(Direction::ToClient, Fault::Pass);
        node.readable().await;
    }
}
