//! Loads that have found nothing: the object that is over is ended, and the note is left and found.

use crate::instance::{Instance, instance};
use crate::node::{config, servers, until};
use larder::connector::redis::{Redis, RedisConnector};
use larder::contract::{Connector, KeyRef, Lease};
use larder::{Cache, Delivery, Index, LoadOptions, Lookup, Miss, Schema, Stored, Ticket};
use larder_testing::server::{Server, ServerOptions};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const LONG: Duration = Duration::from_secs(3600);

/// Keeps expired objects, remembers what the source does not have, and loads anew what expires within ten minutes.
const ALL: LoadOptions = LoadOptions {
    lease: LONG,
    refresh_ahead: Duration::from_secs(600),
    serve_expired: LONG,
    soft_timeout: Duration::ZERO,
    hard_timeout: Duration::ZERO,
    negative_age: LONG,
    jitter: 0.0,
};

/// A cache as its users see it, and the connector below.
struct Place<'a> {
    server: &'a Server,
    cache: Cache<Instance>,
    connector: Arc<RedisConnector>,
}

impl<'a> Place<'a> {
    async fn of(server: &'a Server, loading: LoadOptions) -> Self {
        Self::of_release(server, loading, 0).await
    }

    /// Another release has another fingerprint.
    async fn of_release(server: &'a Server, loading: LoadOptions, release: u64) -> Self {
        let schema = Schema::of::<Instance>().ages(LONG, Duration::ZERO).loading(loading);
        let fingerprint = schema.fingerprint() ^ release;
        let schema = schema.with_fingerprint(fingerprint);
        let connector = Arc::new(Redis::open(config(server.socket())).unwrap().connector(schema.clone()).unwrap());
        let cache = Cache::new(connector.clone(), schema).unwrap();
        until("the cache can be read", || cache.status().readable).await;
        Self { server, cache, connector }
    }

    async fn ticket(&self) -> Ticket {
        self.connector.ticket().await.unwrap()
    }

    /// A load that began at this ticket has found nothing under the key.
    async fn found_nothing_since(&self, ticket: Ticket, (index, key): (Index<Instance, String>, &str)) -> Stored {
        self.connector.fill_absent(bytes(index, key), ticket).await.stored
    }

    async fn found_nothing(&self, key: (Index<Instance, String>, &str)) -> Stored {
        let ticket = self.ticket().await;
        self.found_nothing_since(ticket, key).await
    }

    fn object(&self, id: &str) -> String {
        format!("larder:instance:o{:016x}:{id}", self.cache.schema().fingerprint())
    }

    async fn is_stored(&self, id: &str) -> bool {
        self.server.command(&["EXISTS", &self.object(id)]).await.unwrap().int() == Some(1)
    }

    /// As if the object had been stored so long ago that its max age ends now and so many seconds.
    async fn ends_in(&self, id: &str, seconds: i64) {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        let deadline = (now + 1000 * seconds).to_be_bytes();
        self.server.command(&[b"SETRANGE".as_slice(), self.object(id).as_bytes(), b"20", &deadline]).await.unwrap();
    }

    async fn expires(&self, id: &str) {
        self.ends_in(id, -60).await;
    }

    /// What each way to look says of a key under which nothing can be served.
    async fn misses(&self, (index, key): (Index<Instance, String>, &str)) -> Vec<Miss> {
        assert!(self.cache.get(index, key).await.is_none());
        let look = match self.cache.lookup(index, key).await {
            Lookup::Miss { cause: miss, .. } => miss,
            hit => panic!("{hit:?}"),
        };
        let key = bytes(index, key);
        let (lease, leased) = self.connector.lease(key).await;
        if let Lease::Granted(token) = lease {
            self.connector.release(key, token).await;
        }
        let Lookup::Miss { cause: leased, expired: None, .. } = leased else { panic!("{leased:?}") };
        let keys = [key, bytes(Instance::HOST, "somewhere else")];
        let one = self.connector.get_many(&keys).await.into_iter().next().unwrap().unwrap_err();
        let many = self.connector.lookup_many(&keys).await.found.into_iter().next().unwrap().unwrap_err();
        vec![look, leased, one, many]
    }
}

fn bytes(index: Index<Instance, String>, key: &str) -> KeyRef<'_> {
    KeyRef { index: index.position(), bytes: key.as_bytes() }
}

async fn loads_of_nothing(cache: &Cache<Instance>, index: Index<Instance, String>, key: &str, times: usize) -> u64 {
    let before = cache.stats().loads.get();
    for _ in 0..times {
        assert!(cache.get_or_load(index, key, |_| async { Ok::<_, ()>(None) }).await.unwrap().is_none());
    }
    cache.stats().loads.get() - before
}

#[tokio::test]
async fn a_load_of_nothing_ends_the_object_that_has_expired_under_all_of_its_keys() {
    for server in servers(ServerOptions::default()).await {
        for negative_age in [Duration::ZERO, LONG] {
            for key in [(Instance::ID, "1"), (Instance::HOST, "a")] {
                let place = Place::of(&server, LoadOptions { negative_age, ..ALL }).await;
                place.cache.truncate().await.unwrap();
                assert_eq!(place.cache.set(instance("1", &["a", "b"], "gone")).await, Stored::Accepted);
                place.expires("1").await;
                assert!(matches!(
                    place.cache.lookup(Instance::HOST, "b").await,
                    Lookup::Miss { cause: Miss::Expired, ticket: Some(_), .. }
                ));
                assert_eq!(place.found_nothing(key).await, Stored::Accepted);
                let stranger = Place::of(&server, LoadOptions { negative_age, ..ALL }).await;
                for place in [&place, &stranger] {
                    let known = if negative_age.is_zero() { Miss::Absent } else { Miss::KnownAbsent };
                    assert_eq!(place.misses(key).await, [known; 4]);
                    for other in [(Instance::ID, "1"), (Instance::HOST, "a"), (Instance::HOST, "b")] {
                        if other != key {
                            assert_eq!(place.misses(other).await, [Miss::Absent; 4], "{other:?} after {key:?}");
                        }
                    }
                    assert_eq!(place.cache.stats().faults.get(), 0);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_load_of_nothing_ends_the_object_that_was_to_be_loaded_anew() {
    for server in servers(ServerOptions::default()).await {
        let place = Place::of(&server, ALL).await;
        for key in [(Instance::ID, "1"), (Instance::HOST, "a")] {
            assert_eq!(place.cache.set(instance("1", &["a"], "gone")).await, Stored::Accepted);
            place.ends_in("1", 300).await;
            assert!(place.cache.get(Instance::HOST, "a").await.is_some(), "it is live");
            assert_eq!(place.found_nothing(key).await, Stored::Accepted);
            assert_eq!(place.misses(key).await, [Miss::KnownAbsent; 4]);
            assert!(
                place.cache.get(Instance::HOST, "a").await.is_none()
                    && place.cache.get(Instance::ID, "1").await.is_none()
            );
        }
    }
}

/// Another load may have found it since.
#[tokio::test]
async fn a_load_of_nothing_leaves_an_object_that_is_not_due() {
    for server in servers(ServerOptions::default()).await {
        for loading in [ALL, LoadOptions { negative_age: Duration::ZERO, ..ALL }, LoadOptions::default()] {
            let place = Place::of(&server, LoadOptions { negative_age: LONG, ..loading }).await;
            place.cache.truncate().await.unwrap();
            assert_eq!(place.cache.set(instance("1", &["a"], "x")).await, Stored::Accepted);
            for key in [(Instance::ID, "1"), (Instance::HOST, "a")] {
                assert_eq!(place.found_nothing(key).await, Stored::Overtaken);
                assert!(
                    place.cache.get(Instance::HOST, "a").await.is_some()
                        && place.cache.get(Instance::ID, "1").await.is_some()
                );
            }
            assert_eq!(place.cache.invalidate(Instance::HOST, ["a"]).await.unwrap(), Delivery::Applied);
            assert!(place.cache.get(Instance::ID, "1").await.is_none(), "its index key leads to it as before");
        }
    }
}

/// Whatever has overtaken a load of nothing may have brought the row back.
#[tokio::test]
async fn a_load_of_nothing_that_was_overtaken_ends_nothing_and_notes_nothing() {
    for server in servers(ServerOptions::default()).await {
        let place = Place::of(&server, ALL).await;
        for touch in ["set", "invalidate", "delete", "truncate"] {
            let ticket = place.ticket().await;
            match touch {
                "set" => assert_eq!(place.cache.set(instance("1", &["a"], "newer")).await, Stored::Accepted),
                "invalidate" => drop(place.cache.invalidate(Instance::HOST, ["a"]).await.unwrap()),
                "delete" => drop(place.cache.delete(Instance::HOST, ["a"]).await.unwrap()),
                _ => drop(place.cache.truncate().await.unwrap()),
            }
            if touch != "set" {
                let newer = place.ticket().await;
                assert_eq!(place.cache.fill(instance("1", &["a"], "newer"), newer).await, Stored::Accepted);
            }
            place.expires("1").await;
            assert_eq!(place.found_nothing_since(ticket, (Instance::HOST, "a")).await, Stored::Overtaken, "{touch}");
            assert!(place.is_stored("1").await, "{touch}");
            assert!(matches!(
                place.cache.lookup(Instance::HOST, "a").await,
                Lookup::Miss { cause: Miss::Expired, ticket: Some(_), .. }
            ));
        }
    }
}

/// Six loads instead of two, since the note was refused as long as the index key of an object that had gone was there.
#[tokio::test]
async fn an_index_key_that_leads_nowhere_does_not_keep_a_note_away() {
    for server in servers(ServerOptions::default()).await {
        let loading = LoadOptions { negative_age: LONG, ..LoadOptions::default() };
        let (near, far) = (Place::of(&server, loading).await, Place::of(&server, loading).await);
        assert_eq!(near.cache.set(instance("1", &["a", "b"], "x")).await, Stored::Accepted);
        // So that both nodes remember where the host leads.
        assert!(far.cache.get(Instance::HOST, "a").await.is_some());
        assert_eq!(near.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Applied);
        assert_eq!(loads_of_nothing(&near.cache, Instance::ID, "1", 5).await, 1);
        for host in ["a", "b"] {
            assert_eq!(loads_of_nothing(&near.cache, Instance::HOST, host, 5).await, 1, "{host}");
            assert_eq!(far.misses((Instance::HOST, host)).await, [Miss::KnownAbsent; 4], "{host}");
            assert_eq!(loads_of_nothing(&far.cache, Instance::HOST, host, 5).await, 0, "{host}");
        }
        assert_eq!(loads_of_nothing(&far.cache, Instance::ID, "1", 5).await, 0, "that of the id is still there");
    }
}

/// An index key may lead to an object that has given the key up.
#[tokio::test]
async fn an_object_that_does_not_list_the_key_stays_and_does_not_keep_the_note_away() {
    for server in servers(ServerOptions::default()).await {
        let place = Place::of(&server, ALL).await;
        assert_eq!(place.cache.set(instance("1", &["a", "b"], "x")).await, Stored::Accepted);
        assert_eq!(place.cache.set(instance("1", &["b"], "without a")).await, Stored::Accepted);
        assert_eq!(place.found_nothing((Instance::HOST, "a")).await, Stored::Accepted);
        assert_eq!(place.misses((Instance::HOST, "a")).await, [Miss::KnownAbsent; 4]);
        assert!(place.cache.get(Instance::HOST, "b").await.is_some());
        // Its id begins like another id, and one of its hosts is the end of another host.
        assert_eq!(place.cache.set(instance("12", &["xa", "a2"], "x")).await, Stored::Accepted);
        for key in [(Instance::HOST, "2"), (Instance::ID, "2"), (Instance::HOST, "12")] {
            assert_eq!(place.found_nothing(key).await, Stored::Accepted);
            assert_eq!(place.misses(key).await, [Miss::KnownAbsent; 4]);
        }
        assert!(place.cache.get(Instance::HOST, "a2").await.is_some());
    }
}

/// A key that was deleted under an object leads invalidations to it, and the note takes the place of what leads there. The object was stored
/// before the delete, and so before the load that has found nothing.
#[tokio::test]
async fn a_note_under_a_deleted_key_hides_no_object_from_an_invalidation() {
    for server in servers(ServerOptions::default()).await {
        let place = Place::of(&server, ALL).await;
        for key in [(Instance::ID, "1"), (Instance::HOST, "a")] {
            assert_eq!(place.cache.set(instance("1", &["a", "b"], "x")).await, Stored::Accepted);
            assert_eq!(place.cache.delete(key.0, [key.1]).await.unwrap(), Delivery::Applied);
            assert!(place.cache.get(Instance::HOST, "b").await.is_some());
            assert_eq!(place.found_nothing(key).await, Stored::Accepted);
            assert_eq!(place.misses(key).await, [Miss::KnownAbsent; 4]);
            assert_eq!(place.cache.invalidate(key.0, [key.1]).await.unwrap(), Delivery::Applied);
            assert!(place.cache.get(Instance::HOST, "b").await.is_none());
        }
    }
}

/// The index key is that of all releases: the note takes its place only where no object of any release needs it.
#[tokio::test]
async fn a_load_of_nothing_ends_what_has_expired_in_every_release_and_hides_nothing_that_has_not() {
    for server in servers(ServerOptions::default()).await {
        let (old, new) = (Place::of_release(&server, ALL, 7).await, Place::of(&server, ALL).await);
        let fill = async |place: &Place<'_>| {
            let ticket = place.ticket().await;
            assert_eq!(place.cache.fill(instance("1", &["a", "b"], "x"), ticket).await, Stored::Accepted);
        };
        for key in [(Instance::ID, "1"), (Instance::HOST, "a")] {
            new.cache.truncate().await.unwrap();
            fill(&old).await;
            fill(&new).await;
            old.expires("1").await;
            new.expires("1").await;
            assert_eq!(new.found_nothing(key).await, Stored::Accepted);
            assert!(!old.is_stored("1").await, "{key:?}");
            assert!(old.cache.get(Instance::HOST, "b").await.is_none());
            assert_eq!(new.misses(key).await, [Miss::KnownAbsent; 4]);

            // One has loaded the row anew, maybe after the other had found nothing.
            new.cache.truncate().await.unwrap();
            fill(&old).await;
            fill(&new).await;
            new.expires("1").await;
            let stored = new.found_nothing(key).await;
            assert!(old.is_stored("1").await, "{key:?}");
            assert!(
                matches!(
                    new.cache.lookup(Instance::HOST, "b").await,
                    Lookup::Miss { cause: Miss::Absent, ticket: Some(_), .. }
                ),
                "ended"
            );
            let expected = match key.0 == Instance::ID {
                true => (Stored::Accepted, vec![Miss::KnownAbsent; 4]),
                false => (Stored::Overtaken, vec![Miss::Absent; 4]),
            };
            assert_eq!((stored, new.misses(key).await), expected);
            assert_eq!(new.cache.invalidate(key.0, [key.1]).await.unwrap(), Delivery::Applied);
            assert!(old.cache.get(Instance::HOST, "b").await.is_none(), "an invalidation reaches it: {key:?}");
        }
    }
}

/// The node remembers where the host led, and the source has nothing under that id any more; the host belongs to another object by now.
#[tokio::test]
async fn a_note_under_the_id_that_a_host_had_led_to_does_not_hide_the_object_that_has_the_host_now() {
    for server in servers(ServerOptions::default()).await {
        let (near, far) = (Place::of(&server, ALL).await, Place::of(&server, ALL).await);
        for get in ["get", "get_many", "lookup_many", "lease"] {
            near.cache.truncate().await.unwrap();
            assert_eq!(near.cache.set(instance("1", &["a"], "old")).await, Stored::Accepted);
            assert_eq!(far.cache.set(instance("2", &["a"], "new")).await, Stored::Accepted);
            assert_eq!(far.found_nothing((Instance::ID, "1")).await, Stored::Accepted);
            let key = bytes(Instance::HOST, "a");
            let found = match get {
                "get" => near.connector.get(key).await,
                "get_many" => near.connector.get_many(&[key]).await.remove(0),
                "lookup_many" => near.connector.lookup_many(&[key]).await.found.remove(0),
                _ => match near.connector.lease(key).await.1 {
                    Lookup::Hit { value, .. } => Ok(value),
                    Lookup::Miss { cause, .. } => Err(cause),
                },
            };
            let found = found.map(|found| found.downcast_ref::<Instance>().unwrap().id.clone());
            assert_eq!(found, Ok("2".to_owned()), "{get}");
        }
    }
}

/// A note is written only where there is room for more; what is over is ended all the same.
#[tokio::test]
async fn a_full_server_ends_what_is_over_and_refuses_a_note_where_there_was_nothing() {
    for server in servers(ServerOptions::default()).await {
        let place = Place::of(&server, ALL).await;
        assert_eq!(place.cache.set(instance("1", &["a"], "x")).await, Stored::Accepted);
        assert_eq!(place.cache.set(instance("2", &["b"], "x")).await, Stored::Accepted);
        place.expires("1").await;
        place.expires("2").await;
        server.config_set("maxmemory", "1mb").await.unwrap();
        assert_eq!(place.found_nothing((Instance::HOST, "a")).await, Stored::Accepted);
        assert_eq!(place.found_nothing((Instance::ID, "2")).await, Stored::Accepted);
        assert!(!place.is_stored("1").await);
        assert_eq!(place.misses((Instance::ID, "2")).await, [Miss::KnownAbsent; 4], "in the object's place");
        assert_eq!(place.found_nothing((Instance::HOST, "c")).await, Stored::Full);
        assert_eq!(place.misses((Instance::HOST, "c")).await, [Miss::Absent; 4]);
    }
}

/// As cheap as any miss: the note is found where the index key, or the object, would be.
#[tokio::test]
async fn a_note_is_found_in_one_round_trip() {
    for server in servers(ServerOptions::default()).await {
        let loading = LoadOptions { negative_age: LONG, ..LoadOptions::default() };
        let place = Place::of(&server, loading).await;
        assert_eq!(place.cache.set(instance("1", &["a"], "x")).await, Stored::Accepted);
        assert_eq!(place.cache.invalidate(Instance::ID, ["1"]).await.unwrap(), Delivery::Applied);
        for key in [(Instance::ID, "1"), (Instance::HOST, "a")] {
            assert_eq!(place.found_nothing(key).await, Stored::Accepted);
            server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
            for _ in 0..10 {
                assert!(matches!(
                    place.cache.lookup(key.0, key.1).await,
                    Lookup::Miss { cause: Miss::KnownAbsent, ticket: None, .. }
                ));
            }
            let stats = server.info("commandstats").await.unwrap();
            let gets = stats["cmdstat_get"].clone();
            assert!(gets.starts_with("calls=10,"), "{key:?}: {gets}");
        }
    }
}
