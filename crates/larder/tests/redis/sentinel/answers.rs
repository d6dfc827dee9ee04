//! What larder makes of the Sentinels' answers. The Sentinels are scripted, and the servers real; no server knows of any failover.

use super::scripted::{Said, Scene, Sentinel, connections, watching};
use crate::instance::{Instance, instance};
use crate::node::{Node, calls, until};
use larder::connector::redis::SentinelOptions;
use larder::{Delivery, Stored};
use larder_testing::log::Log;
use larder_testing::server::Reply;
use std::time::Duration;
use tracing::Level;

const GIVEN_UP: &str = "given up: the Sentinels name another server as the master";

async fn role(server: &larder_testing::server::Server) -> Vec<u8> {
    match server.command(&["ROLE"]).await.unwrap() {
        Reply::Array(role) => role[0].bytes().unwrap().to_vec(),
        other => panic!("ROLE was answered by {other:?}"),
    }
}

/// T11: a master that was replaced takes reads and writes for ten seconds more, and nothing on its connection shows that.
#[tokio::test]
async fn a_node_leaves_the_old_master_with_the_second_heartbeat_at_the_latest() {
    for scene in Scene::all(3).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let node = scene.node().await;
        node.set("1", &["a"], "old").await;
        let before = calls(&scene.first, "info").await;
        scene.all_say(Said::of(&scene.second, 1));
        until("the node has left", || log.count(&[GIVEN_UP]) == 1).await;
        // One INFO is sent with each heartbeat, and one was sent here.
        let heartbeats = calls(&scene.first, "info").await - before - 1;
        assert!(heartbeats <= 2, "{heartbeats}");
        assert_eq!(role(&scene.first).await, b"master", "it has noticed nothing");
        node.readable().await;
        assert_eq!((connections(&scene.first).await, connections(&scene.second).await), (0, 1));
        assert!(node.by_host("a").await.is_none(), "that was on the other server");
        assert_eq!(
            log.count(&["WARN", "another server is the master", "epoch=1", "before=127.0.0.1"]),
            1,
            "{}",
            log.text()
        );
        node.set("1", &["a"], "new").await;
    }
}

/// A stopped server answers when it goes on, however long after the Sentinels have named it.
#[tokio::test]
async fn a_master_that_kept_a_connect_waiting_while_another_took_its_place_is_not_used() {
    for scene in Scene::all(1).await {
        let (log, _guard) = Log::begin(Level::INFO);
        scene.first.stop().unwrap();
        let node = Node::begin(scene.options().connect_timeout(Duration::from_secs(20)));
        until("the Sentinel was asked", || scene.sentinels[0].asked() > 0).await;
        scene.all_say(Said::of(&scene.second, 1));
        scene.first.cont().unwrap();
        node.readable().await;
        assert_eq!((connections(&scene.first).await, connections(&scene.second).await), (0, 1));
        assert_eq!(
            log.count(&["cannot connect", "the Sentinels name another server as the master"]),
            1,
            "{}",
            log.text()
        );
        assert_eq!(log.count(&["given up"]), 0, "it was never used: {}", log.text());
    }
}

#[tokio::test]
async fn of_sentinels_that_disagree_the_newest_is_believed_that_no_majority_contradicts() {
    for scene in Scene::all(3).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let node = scene.node().await;
        scene.sentinels[0].says(Said::of(&scene.second, 1));
        scene.asked(3).await;
        assert!(node.cache.status().readable);
        assert_eq!(log.count(&["given up"]), 0, "one is contradicted by two: {}", log.text());
        scene.sentinels[1].says(Said::of(&scene.second, 1));
        until("two of three have heard of it", || log.count(&[GIVEN_UP]) == 1).await;
        node.readable().await;
        scene.asked(3).await;
        assert_eq!((connections(&scene.first).await, connections(&scene.second).await), (0, 1), "one is behind");
        assert_eq!(log.count(&["given up"]), 1, "{}", log.text());
    }
}

/// A node that reaches only a Sentinel which is cut off from the others does not go back to the old master.
#[tokio::test]
async fn a_sentinel_that_is_behind_is_not_believed_again() {
    for scene in Scene::all(3).await {
        let (log, _guard) = Log::begin(Level::INFO);
        scene.all_say(Said::of(&scene.second, 5));
        let node = scene.node().await;
        scene.sentinels[0].says(Said::of(&scene.first, 4));
        scene.sentinels[1].falls_silent();
        scene.sentinels[2].falls_silent();
        until("nobody confirms the master", || log.count(&["WARN", "have not confirmed"]) == 1).await;
        assert!(log.text().contains("are behind"), "{}", log.text());
        assert!(node.cache.status().readable);
        assert_eq!((connections(&scene.first).await, connections(&scene.second).await), (0, 1));
        // A majority of all counts from the beginning: the Sentinels were set up anew.
        scene.all_say(Said::of(&scene.first, 0));
        until("the node has left", || log.count(&[GIVEN_UP]) == 1).await;
        node.readable().await;
        assert_eq!((connections(&scene.first).await, connections(&scene.second).await), (1, 0));
    }
}

#[tokio::test]
async fn a_failover_and_back_is_a_reason_to_look_again_and_clears_nothing() {
    for scene in Scene::all(1).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let node = scene.node().await;
        node.set("1", &["a"], "kept").await;
        scene.all_say(Said::of(&scene.first, 2));
        until("it looks again", || log.count(&["given up: the Sentinels have failed over, and back"]) == 1).await;
        node.readable().await;
        assert!(node.by_host("a").await.is_some(), "the server's history is the same");
        scene.asked(2).await;
        assert_eq!(log.count(&["given up"]), 1, "{}", log.text());
    }
}

#[tokio::test]
async fn without_any_sentinel_the_connection_is_kept_and_that_is_told() {
    for scene in Scene::all(2).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let node = scene.node().await;
        scene.sentinels.iter().for_each(Sentinel::falls_silent);
        until("it is told", || log.count(&["WARN", "have not confirmed the master for three heartbeats"]) == 1).await;
        assert_eq!(
            log.count(&["WARN", "a Sentinel does not say which server is the master", "no answer within"]),
            2,
            "{}",
            log.text()
        );
        node.set("1", &["a"], "as before").await;
        assert!(node.by_host("a").await.is_some());
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Applied);
        scene.all_say(Said::of(&scene.first, 0));
        until("they are back", || log.count(&["INFO", "tell again which server is the master"]) == 1).await;
        until("both are back", || log.count(&["INFO", "a Sentinel answers again"]) == 2).await;
        assert_eq!(log.count(&["given up"]), 0, "{}", log.text());
    }
}

/// Strict nodes do not read what might be the old master. One Sentinel of three is no majority.
#[tokio::test]
async fn a_strict_node_reads_only_what_a_majority_of_the_sentinels_confirms() {
    for scene in Scene::all(3).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let node = Node::begin(watching(scene.sentinel_options().strict(true)));
        node.readable().await;
        node.set("1", &["a"], "old").await;
        scene.sentinels[0].falls_silent();
        scene.asked_of(&[1, 2], 4).await;
        assert!(node.cache.status().readable, "two of three");
        scene.sentinels[1].falls_silent();
        until("it has left", || log.count(&["given up: no majority of the Sentinels"]) == 1).await;
        until("no cache is read", || !node.cache.status().readable).await;
        assert!(node.by_host("a").await.is_none());
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Deferred);
        scene.sentinels[1].says(Said::of(&scene.first, 0));
        node.readable().await;
        assert_eq!(node.cache.status().journal, 0);
        assert!(node.by_id("1").await.is_none(), "what was deferred is applied");
    }
}

/// Another node that has not heard of the promotion may read the old master still. So nothing counts as applied on the new one.
#[tokio::test]
async fn nothing_counts_as_applied_on_a_promoted_server_before_the_grace_is_over() {
    for scene in Scene::all(1).await {
        let late = scene.node().await;
        late.set("1", &["a"], "old").await;
        let promoted = |since| Said { since, ..Said::of(&scene.second, 1) };
        let hour = Duration::from_secs(3600);
        // The node that knows of the promotion has a Sentinel of its own.
        let knows = Sentinel::start(promoted(Duration::ZERO)).await;
        let options = watching(SentinelOptions::new("mymaster").host("127.0.0.1", knows.port()).grace(hour));
        let early = Node::begin(options.clone());
        until("it is connected", || {
            early.redis.breaker().state() == larder::breaker::State::Closed && knows.asked() > 2
        })
        .await;
        assert_eq!(early.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Deferred);
        assert_eq!(early.cache.set(instance("2", &["b"], "new")).await, Stored::Unavailable);
        assert!(!early.cache.status().readable);
        assert_eq!(scene.second.keys("larder:*").await.unwrap().len(), 0, "nothing is touched there");
        assert!(late.by_host("a").await.is_some(), "it reads the old master, and may: nobody was told otherwise");
        // Who comes after the grace does not wait.
        knows.says(promoted(hour));
        Node::begin(options).readable().await;
    }
}

#[tokio::test]
async fn the_named_server_must_say_on_the_very_connection_that_it_is_a_master() {
    for scene in Scene::all(1).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let port = scene.first.port().unwrap().to_string();
        scene.second.command(&["REPLICAOF", "127.0.0.1", &port]).await.unwrap();
        scene.all_say(Said::of(&scene.second, 1));
        let node = Node::begin(scene.options());
        until("it is refused", || log.count(&["cannot connect", "it says that it is a replica"]) == 1).await;
        assert!(log.text().contains("which the Sentinels name as the master"), "{}", log.text());
        assert_eq!(node.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Deferred);
        scene.second.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
        node.readable().await;
        assert_eq!(node.cache.status().journal, 0);
    }
}
