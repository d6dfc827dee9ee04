//! Objects whose bytes would be read back as another object, or not at all.

use crate::node::{config, servers, until};
use larder::connector::redis::Redis;
use larder::{Cache, Entry, Lookup, Miss, Schema, Stored};
use larder_testing::log::Log;
use larder_testing::server::{Server, ServerOptions};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::Arc;
use tracing::Level;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "profile")]
struct Profile {
    #[key(primary)]
    id: u32,
    nickname: Option<Option<String>>,
}

const UNSURE: Option<Option<String>> = Some(None);

fn profile(id: u32, nickname: Option<Option<String>>) -> Profile {
    Profile { id, nickname }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "account")]
struct Account {
    #[key(primary)]
    id: u32,
    #[serde(flatten)]
    balance: Balance,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Balance {
    cents: i128,
}

/// What was written as one thing and is read as another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "login")]
struct Login {
    #[key(primary)]
    id: u32,
    #[serde(skip_deserializing)]
    secret: String,
}

async fn cache<E: Entry>(server: &Server) -> Cache<E> {
    let schema = Schema::of::<E>();
    let redis = Redis::open(config(server.socket())).unwrap();
    let cache = Cache::new(Arc::new(redis.connector(schema.clone()).unwrap()), schema).unwrap();
    until("the cache can be read", || cache.status().readable).await;
    cache
}

fn told(log: &Log, level: &str) -> usize {
    log.text().lines().filter(|line| line.split_whitespace().nth(1) == Some(level)).count()
}

#[tokio::test]
async fn an_object_that_bytes_do_not_keep_is_refused_by_every_call_and_leaves_nothing_older() {
    for server in servers(ServerOptions::default()).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let cache: Cache<Profile> = cache(&server).await;
        for nickname in [None, Some(Some("jo".to_owned()))] {
            assert_eq!(cache.set(profile(1, nickname.clone())).await, Stored::Accepted);
            assert_eq!(*cache.get(Profile::ID, 1).await.unwrap(), profile(1, nickname));
        }
        assert_eq!(cache.set(profile(1, UNSURE)).await, Stored::Unfit);
        assert!(cache.get(Profile::ID, 1).await.is_none(), "its earlier state is gone all the same");

        assert_eq!(cache.set(profile(1, None)).await, Stored::Accepted);
        let several = [profile(1, UNSURE), profile(2, None), profile(3, UNSURE)];
        assert_eq!(cache.set_many(several.clone()).await, [Stored::Unfit, Stored::Accepted, Stored::Unfit]);
        let found = cache.get_many(Profile::ID, [1, 2, 3]).await;
        assert_eq!(found.iter().flatten().map(|found| found.id).collect::<Vec<_>>(), [2]);

        let Lookup::Miss { cause: Miss::Absent, ticket: Some(ticket), .. } = cache.lookup(Profile::ID, 4).await else {
            panic!("a ticket is given with a miss");
        };
        assert_eq!(cache.fill(profile(4, UNSURE), ticket).await, Stored::Unfit);
        let load = |id: u32| async move { Ok::<_, Infallible>(Some(profile(id, UNSURE))) };
        for _ in 0..3 {
            let loaded = cache.get_or_load(Profile::ID, 4_u32, load).await.unwrap();
            assert_eq!(*loaded.unwrap(), profile(4, UNSURE), "its caller has the object");
        }
        let load_many = |ids: Vec<u32>| async move {
            Ok::<_, Infallible>(ids.into_iter().map(|id| profile(id, UNSURE)).collect::<Vec<_>>())
        };
        let loaded = cache.load_many(Profile::ID, [4_u32, 5], load_many).await.unwrap();
        assert_eq!(loaded.iter().flatten().filter(|loaded| loaded.nickname == UNSURE).count(), 2);
        assert!(cache.get_many(Profile::ID, [1, 3, 4, 5]).await.iter().all(Option::is_none));

        assert_eq!(cache.stats().put(Stored::Unfit).get(), 3);
        assert_eq!(cache.stats().fill(Stored::Unfit).get(), 6);
        assert_eq!(cache.stats().faults.get(), 0);
        assert_eq!((told(&log, "WARN"), told(&log, "ERROR")), (1, 0), "{}", log.text());
        for word in ["Profile", "`nickname`", "profile"] {
            assert!(log.text().contains(word), "{word} is missing: {}", log.text());
        }
    }
}

#[tokio::test]
async fn an_object_that_could_never_be_read_again_is_refused() {
    for server in servers(ServerOptions::default()).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let cache: Cache<Account> = cache(&server).await;
        for cents in [0, 7, i128::MAX] {
            assert_eq!(cache.set(Account { id: 1, balance: Balance { cents } }).await, Stored::Unfit);
            let found = cache.lookup(Account::ID, 1).await;
            assert!(
                matches!(found, Lookup::Miss { cause: Miss::Absent, ticket: Some(_), .. }),
                "nothing that cannot be read is stored: {found:?}"
            );
        }
        assert_eq!((told(&log, "WARN"), told(&log, "ERROR")), (1, 0), "{}", log.text());
        assert!(log.text().contains("Account"), "{}", log.text());
    }
}

#[tokio::test]
async fn an_object_that_would_be_read_as_another_is_refused_and_its_values_are_not_told() {
    for server in servers(ServerOptions::default()).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let cache: Cache<Login> = cache(&server).await;
        assert_eq!(cache.set(Login { id: 1, secret: String::new() }).await, Stored::Accepted);
        assert_eq!(cache.set(Login { id: 1, secret: "sesame".into() }).await, Stored::Unfit);
        assert!(cache.get(Login::ID, 1).await.is_none());
        assert_eq!((told(&log, "WARN"), told(&log, "ERROR")), (1, 0), "{}", log.text());
        assert!(!log.text().contains("sesame"), "{}", log.text());
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "note")]
struct Note {
    #[key(primary)]
    id: u32,
    text: String,
}

/// A note of the same shape, in another release that does not take every text.
mod picky {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
    #[entry(cache = "note")]
    pub(super) struct Note {
        #[key(primary)]
        id: u32,
        #[serde(deserialize_with = "no_secret")]
        text: String,
    }

    fn no_secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.contains("secret") { Err(serde::de::Error::custom(format!("not this: {text}"))) } else { Ok(text) }
    }
}

/// C11, where the bytes are whole and their reader makes nothing of them.
#[tokio::test]
async fn a_payload_that_its_reader_refuses_is_reported_without_what_it_holds_and_is_removed() {
    for server in servers(ServerOptions::default()).await {
        let (log, _guard) = Log::begin(Level::INFO);
        let (writer, reader): (Cache<Note>, Cache<picky::Note>) = (cache(&server).await, cache(&server).await);
        assert_eq!(writer.schema().fingerprint(), reader.schema().fingerprint());
        let note = || Note { id: 1, text: "secret: sesame".into() };
        assert_eq!(writer.set(note()).await, Stored::Accepted);
        let found = reader.lookup(picky::Note::ID, 1).await;
        assert!(matches!(found, Lookup::Miss { cause: Miss::Undecodable, ticket: Some(_), .. }), "{found:?}");
        assert!(writer.get(Note::ID, 1).await.is_none(), "it was removed");
        assert_eq!(writer.set(note()).await, Stored::Accepted);
        assert_eq!(reader.get_many(picky::Note::ID, [1]).await, [None]);
        assert!(writer.get(Note::ID, 1).await.is_none(), "it was removed");
        assert_eq!(reader.stats().faults.get(), 2);
        assert_eq!((told(&log, "WARN"), told(&log, "ERROR")), (0, 1), "{}", log.text());
        assert!(!log.text().contains("sesame"), "{}", log.text());
    }
}
