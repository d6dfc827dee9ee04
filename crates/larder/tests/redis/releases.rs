//! Two releases whose entries do not even have the same indexes: one has an index more, and one has another name for the
//! primary one. What either changes reaches the objects of the other (C12).

use crate::node::{config, servers, until};
use larder::connector::redis::Redis;
use larder::{Cache, Delivery, Entry, Lookup, Schema, Stored};
use larder_testing::server::{Server, ServerOptions};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The release before: `host` is its second index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "tenant")]
struct Old {
    #[key(primary)]
    id: String,
    #[key(index = "host")]
    hosts: Vec<String>,
}

/// The release after: `host` is its third index, and the primary one is called otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "tenant")]
struct New {
    #[key(primary, index = "tenant-id")]
    id: String,
    #[key(index = "slug")]
    slugs: Vec<String>,
    #[key(index = "host")]
    hosts: Vec<String>,
}

fn old(id: &str, hosts: &[&str]) -> Old {
    Old { id: id.to_owned(), hosts: hosts.iter().map(|host| (*host).to_owned()).collect() }
}

fn new(id: &str, hosts: &[&str]) -> New {
    let Old { id, hosts } = old(id, hosts);
    New { slugs: vec![format!("slug-{id}")], id, hosts }
}

async fn open<E: Entry>(server: &Server) -> Cache<E> {
    let redis = Redis::open(config(server.socket())).unwrap();
    let schema = Schema::of::<E>();
    let cache = Cache::new(Arc::new(redis.connector(schema.clone()).unwrap()), schema).unwrap();
    until("the cache can be read", || cache.status().readable).await;
    cache
}

#[tokio::test]
async fn whoever_takes_a_key_takes_it_from_the_object_of_the_other_release_as_well() {
    for server in servers(ServerOptions::default()).await {
        let (olds, news) = (open::<Old>(&server).await, open::<New>(&server).await);
        assert_eq!(olds.set(old("1", &["a", "b"])).await, Stored::Accepted);
        assert!(olds.get(Old::HOST, "a").await.is_some());
        assert_eq!(news.set(new("2", &["a"])).await, Stored::Accepted);
        assert!(olds.get(Old::HOST, "a").await.is_none());
        assert!(olds.get(Old::HOST, "b").await.is_none());
        assert!(olds.get(Old::ID, "1").await.is_none());

        assert_eq!(olds.set(old("1", &["a", "b"])).await, Stored::Accepted);
        assert!(news.get(New::TENANT_ID, "2").await.is_none());
        assert!(news.get(New::SLUG, "slug-2").await.is_none());
    }
}

#[tokio::test]
async fn a_delete_makes_the_key_miss_in_the_object_of_the_other_release_as_well() {
    for server in servers(ServerOptions::default()).await {
        let (olds, news) = (open::<Old>(&server).await, open::<New>(&server).await);
        assert_eq!(olds.set(old("1", &["a", "b"])).await, Stored::Accepted);
        assert_eq!(news.delete(New::HOST, ["a"]).await.unwrap(), Delivery::Applied);
        assert!(olds.get(Old::HOST, "a").await.is_none());
        assert!(olds.get(Old::HOST, "b").await.is_some());
        assert_eq!(news.delete(New::TENANT_ID, ["1"]).await.unwrap(), Delivery::Applied);
        assert!(olds.get(Old::ID, "1").await.is_none());
        assert!(olds.get(Old::HOST, "b").await.is_some());

        assert_eq!(news.set(new("1", &["a", "b"])).await, Stored::Accepted);
        assert_eq!(olds.delete(Old::HOST, ["a"]).await.unwrap(), Delivery::Applied);
        assert!(news.get(New::HOST, "a").await.is_none());
        assert!(news.get(New::HOST, "b").await.is_some());
        assert!(news.get(New::SLUG, "slug-1").await.is_some());
    }
}

/// Without its index key, an object cannot be found by an invalidation through that key.
#[tokio::test]
async fn a_prune_leaves_the_index_keys_that_an_object_of_the_other_release_needs() {
    for server in servers(ServerOptions::default()).await {
        let (olds, news) = (open::<Old>(&server).await, open::<New>(&server).await);
        assert_eq!(olds.set(old("1", &["a"])).await, Stored::Accepted);
        assert_eq!(news.prune().await.unwrap().keys, 0);
        assert_eq!(news.invalidate(New::HOST, ["a"]).await.unwrap(), Delivery::Applied);
        assert!(olds.get(Old::ID, "1").await.is_none());
        assert_eq!(news.prune().await.unwrap().keys, 1, "what dangles is removed all the same");
    }
}

/// The primary key is the object's identity, whatever a release calls its index.
#[tokio::test]
async fn a_load_is_overtaken_by_an_invalidation_of_a_release_that_calls_the_primary_index_otherwise() {
    for server in servers(ServerOptions::default()).await {
        let (olds, news) = (open::<Old>(&server).await, open::<New>(&server).await);
        let Lookup::Miss { ticket: Some(ticket), .. } = olds.lookup(Old::ID, "1").await else { panic!("no ticket") };
        assert_eq!(news.invalidate(New::TENANT_ID, ["1"]).await.unwrap(), Delivery::Applied);
        assert_eq!(olds.fill(old("1", &["a"]), ticket).await, Stored::Overtaken);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "account")]
struct OldAccount {
    #[key(primary)]
    id: String,
    #[version]
    sequence: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "account")]
struct NewAccount {
    #[key(primary)]
    id: String,
    #[version]
    sequence: u64,
    name: String,
}

#[tokio::test]
async fn a_lower_version_is_refused_also_where_the_other_release_has_stored_the_higher_one() {
    for server in servers(ServerOptions::default()).await {
        let (olds, news) = (open::<OldAccount>(&server).await, open::<NewAccount>(&server).await);
        let top = u64::MAX;
        assert_eq!(news.set(NewAccount { id: "1".into(), sequence: top, name: "new".into() }).await, Stored::Accepted);
        assert_eq!(
            news.set(NewAccount { id: "1".into(), sequence: top - 1, name: "old".into() }).await,
            Stored::Outdated
        );
        assert_eq!(olds.set(OldAccount { id: "1".into(), sequence: top - 1 }).await, Stored::Outdated);
        assert!(olds.get(OldAccount::ID, "1").await.is_none());
        assert_eq!(news.get(NewAccount::ID, "1").await.unwrap().name, "new", "nor does it take the higher one away");
    }
}

/// Both releases hold a state that they have loaded; a set that is outdated by one of them is newer than the other.
#[tokio::test]
async fn a_set_that_is_outdated_takes_along_what_is_older_still() {
    for server in servers(ServerOptions::default()).await {
        let (olds, news) = (open::<OldAccount>(&server).await, open::<NewAccount>(&server).await);
        let Lookup::Miss { ticket: Some(ticket), .. } = olds.lookup(OldAccount::ID, "1").await else {
            panic!("no ticket")
        };
        assert_eq!(olds.fill(OldAccount { id: "1".into(), sequence: 5 }, ticket).await, Stored::Accepted);
        let newer = NewAccount { id: "1".into(), sequence: 9, name: "new".into() };
        assert_eq!(news.fill(newer, ticket).await, Stored::Accepted);
        assert_eq!(olds.set(OldAccount { id: "1".into(), sequence: 7 }).await, Stored::Outdated);
        assert!(olds.get(OldAccount::ID, "1").await.is_none());
        assert!(news.get(NewAccount::ID, "1").await.is_some());
    }
}
