//! The memory connector: what a reader may see while another thread changes something.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use larder::LoadOptions;
use larder_interleavings::clock::{Clock, ManualClock};
use larder_interleavings::connector::memory::{Memory, MemoryOptions};
use larder_interleavings::contract::{Answer, Connector, KeyBuf, KeyRef, Object, Schema, Stored, Ticket};
use larder_testing::entries::Site;
use loom::thread;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const ID: u8 = 0;
const HOST: u8 = 1;

/// The last-use age, in tests that set one.
const AGE: Duration = Duration::from_millis(100);

/// Made before loom runs: the stack of a thread under loom is too small to make it.
static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<Site>);

fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    explore_up_to(2, scenario);
}

fn explore_up_to(preemptions: usize, scenario: impl Fn() + Send + Sync + 'static) {
    LazyLock::force(&SCHEMA);
    larder_interleavings::explore_up_to(preemptions, scenario);
}

/// A cache of sites, shared by threads.
#[derive(Clone)]
struct Sites {
    memory: Arc<Memory>,
    hand: ManualClock,
}

/// Takes an answer that is ready at once. Every operation of this connector is; a prune is when there is little to look at.
fn at_once<T: Unpin>(mut answer: Answer<'_, T>) -> T {
    match Pin::new(&mut answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("memory answers at once"),
    }
}

impl Sites {
    fn new(max_objects: u64, last_use_age: Duration) -> Self {
        Self::of(SCHEMA.clone().ages(Duration::ZERO, last_use_age), max_objects)
    }

    /// A cache whose objects are due to be loaded anew from their first moment on.
    fn due() -> Self {
        // It must be less than the age, and is rounded up to the age.
        let refresh_ahead = AGE - Duration::from_nanos(1);
        let loading = LoadOptions::new().refresh_ahead(refresh_ahead);
        Self::of(SCHEMA.clone().ages(AGE, Duration::ZERO).loading(loading), 100)
    }

    fn of(schema: Schema, max_objects: u64) -> Self {
        let (clock, hand) = Clock::manual();
        let memory = Memory::on_clock(schema, MemoryOptions::new().max_objects(max_objects), clock).unwrap();
        Self { memory: Arc::new(memory), hand }
    }

    /// A cache without limits of number or age.
    fn roomy() -> Self {
        Self::new(100, Duration::ZERO)
    }

    /// The name of the object that is found under a key. The object must list the key.
    fn get(&self, index: u8, key: &str) -> Option<String> {
        let found = at_once(self.memory.get(KeyRef { index, bytes: key.as_bytes() })).ok()?;
        let site = found.downcast::<Site>().unwrap();
        let listed = if index == ID { site.id == key } else { site.hosts.iter().any(|host| host == key) };
        assert!(listed, "{site:?} was found under {key}");
        Some(site.name.clone())
    }

    fn ticket(&self) -> Ticket {
        at_once(self.memory.ticket()).unwrap()
    }

    fn set(&self, id: &str, hosts: &[&str], name: &str) {
        assert_eq!(at_once(self.memory.set(object(id, hosts, name))), Stored::Accepted);
    }

    fn invalidate(&self, index: u8, name: &str) {
        at_once(self.memory.invalidate(vec![key(index, name)], None)).unwrap();
    }

    fn delete(&self, index: u8, name: &str) {
        at_once(self.memory.delete(vec![key(index, name)])).unwrap();
    }

    /// Runs `act` in another thread.
    fn meanwhile(&self, act: impl FnOnce(Self) + 'static) -> thread::JoinHandle<()> {
        let sites = self.clone();
        thread::spawn(move || act(sites))
    }
}

fn key(index: u8, name: &str) -> KeyBuf {
    KeyBuf { index, bytes: name.as_bytes().into() }
}

fn object(id: &str, hosts: &[&str], name: &str) -> Object {
    let secondary = hosts.iter().map(|host| key(HOST, host)).collect();
    Object::new(id.as_bytes(), secondary, None, Arc::new(Site::new(id, hosts, name)))
}

#[test]
fn a_set_is_seen_under_all_keys_or_under_none() {
    // In whatever order a reader looks: once it has seen the new state, the old state is gone and the new one is there under all keys.
    for [first, second, third] in [[(HOST, "new"), (ID, "1"), (HOST, "old")], [(ID, "1"), (HOST, "old"), (HOST, "new")]]
    {
        explore(move || {
            let sites = Sites::roomy();
            sites.set("1", &["old"], "old");
            let setting = sites.meanwhile(|sites| sites.set("1", &["new"], "new"));
            let mut replaced = false;
            for (index, key) in [first, second, third] {
                let found = sites.get(index, key);
                let expected = (key != "old").then_some("new");
                assert!(!replaced || found.as_deref() == expected, "half a set: {found:?} under {key}");
                replaced |= found.as_deref() == Some("new");
            }
            setting.join().unwrap();
            assert_eq!(sites.get(HOST, "old"), None);
            assert_eq!(sites.get(HOST, "new").as_deref(), Some("new"));
        });
    }
}

/// What ends an object, by name.
type End = (&'static str, fn(&Sites));

/// What ends the object `1` with the hosts `a` and `b`.
const ENDS: [End; 7] = [
    ("an invalidation", |sites| sites.invalidate(HOST, "b")),
    ("a truncate", |sites| drop(at_once(sites.memory.truncate()))),
    ("an eviction", |sites| sites.set("2", &[], "other")),
    ("another holder of its key", |sites| sites.set("2", &["a"], "other")),
    ("a prune", |sites| drop(at_once(sites.memory.prune()))),
    ("a load of nothing", |sites| {
        let nothing = sites.memory.fill_absent(KeyRef { index: HOST, bytes: b"a" }, sites.ticket());
        assert_eq!(at_once(nothing).stored, Stored::Accepted);
    }),
    ("a refused put", |sites| {
        let put = sites.memory.put(object("2", &["a"], "other"), None);
        assert_eq!(at_once(put), Stored::Overtaken);
    }),
];

#[test]
fn an_object_that_is_gone_under_one_key_is_gone_under_all() {
    for (what, end) in ENDS {
        for looks in [[(ID, "1"), (HOST, "a")], [(HOST, "b"), (ID, "1")]] {
            explore(move || {
                let sites = match what {
                    "a prune" => Sites::new(100, AGE),
                    "a load of nothing" => Sites::due(),
                    _ => Sites::new(1, Duration::ZERO),
                };
                sites.set("1", &["a", "b"], "it");
                if what == "a prune" {
                    sites.hand.advance(AGE);
                }
                let ending = sites.meanwhile(move |sites| end(&sites));
                let mut gone = false;
                for (index, key) in looks {
                    let there = sites.get(index, key).as_deref() == Some("it");
                    assert!(!there || !gone, "{what}: gone under one key, and there under {key}");
                    gone = !there;
                }
                ending.join().unwrap();
                let there = [(ID, "1"), (HOST, "a"), (HOST, "b")]
                    .map(|(index, key)| sites.get(index, key).as_deref() == Some("it"));
                // An eviction may spare the object, because the get has used it.
                let all = what == "an eviction" && there[0];
                assert_eq!(there, [all; 3], "{what}");
            });
        }
    }
}

/// The place of an object's pulse is given to the next object. A reader must not take the next object for the first.
#[test]
fn an_object_that_has_expired_is_not_revived_by_the_next_one_in_its_place() {
    explore(|| {
        let sites = Sites::new(100, AGE);
        sites.set("1", &["a"], "expired");
        sites.hand.advance(AGE);
        let replacing = sites.meanwhile(|sites| {
            sites.invalidate(ID, "1");
            sites.set("2", &["b"], "next");
        });
        assert_eq!(sites.get(HOST, "a"), None);
        assert_eq!(sites.get(ID, "1"), None);
        replacing.join().unwrap();
        assert_eq!(sites.get(ID, "2").as_deref(), Some("next"));
    });
}

/// A get counts a use in the pulse. Its object may have ended meanwhile, and another object may have begun in the same place.
#[test]
fn a_use_revives_nothing_and_shows_no_half_of_the_next_object() {
    explore_up_to(3, || {
        let sites = Sites::new(100, AGE);
        sites.set("1", &[], "first");
        sites.hand.advance(Duration::from_millis(1));
        let replacing = sites.meanwhile(|sites| {
            sites.invalidate(ID, "1");
            sites.set("2", &["b"], "next");
        });
        sites.get(ID, "1");
        if sites.get(ID, "2").is_some() {
            assert_eq!(sites.get(HOST, "b").as_deref(), Some("next"), "half a set");
        }
        replacing.join().unwrap();
        assert_eq!(sites.get(ID, "1"), None);
    });
}

#[test]
fn what_nobody_changes_is_there_all_the_time() {
    explore(|| {
        let sites = Sites::roomy();
        sites.set("1", &["a"], "it");
        let changing = sites.meanwhile(|sites| {
            sites.delete(ID, "1");
            sites.set("2", &["b"], "other");
            sites.invalidate(HOST, "b");
        });
        for _ in 0..2 {
            assert_eq!(sites.get(HOST, "a").as_deref(), Some("it"));
        }
        changing.join().unwrap();
        assert_eq!(sites.get(ID, "1"), None, "its key was deleted");
    });
}

#[test]
fn a_host_that_moves_leads_to_the_one_or_the_other_and_never_back() {
    explore(|| {
        let sites = Sites::roomy();
        sites.set("1", &["a"], "first");
        let moving = sites.meanwhile(|sites| sites.set("2", &["a"], "second"));
        let seen = [sites.get(HOST, "a"), sites.get(ID, "1"), sites.get(HOST, "a")];
        let [before, holder, after] = seen.each_ref().map(Option::as_deref);
        assert!(before != Some("second") || (holder.is_none() && after == Some("second")), "{seen:?}");
        assert!(holder.is_some() || after != Some("first"), "{seen:?}");
        moving.join().unwrap();
        assert_eq!(sites.get(HOST, "a").as_deref(), Some("second"));
    });
}

/// The source of the loads: a number that each change increases.
type Source = Arc<loom::sync::Mutex<u32>>;

fn read(source: &Source) -> String {
    source.lock().unwrap().to_string()
}

#[test]
fn what_was_loaded_before_a_change_is_not_there_after_it() {
    let forgets: [fn(&Sites); 3] = [
        |sites| sites.invalidate(HOST, "a"),
        |sites| drop(at_once(sites.memory.truncate())),
        |sites| sites.set("1", &["a"], "1"),
    ];
    for forget in forgets {
        explore(move || {
            let (sites, source) = (Sites::roomy(), Source::default());
            let changing = sites.meanwhile({
                let source = source.clone();
                move |sites| {
                    *source.lock().unwrap() += 1;
                    forget(&sites);
                    assert_ne!(sites.get(ID, "1").as_deref(), Some("0"));
                }
            });
            let ticket = sites.ticket();
            let loaded = read(&source);
            at_once(sites.memory.fill(object("1", &["a"], &loaded), ticket));
            changing.join().unwrap();
            assert_ne!(sites.get(ID, "1").as_deref(), Some("0"));
            assert_ne!(sites.get(HOST, "a").as_deref(), Some("0"));
        });
    }
}

#[test]
fn of_two_updates_the_last_is_there_or_none() {
    explore(|| {
        let (sites, source) = (Sites::roomy(), Source::default());
        let update = |sites: &Sites, source: &Source| {
            let ticket = sites.ticket();
            let written = {
                let mut source = source.lock().unwrap();
                *source += 1;
                source.to_string()
            };
            at_once(sites.memory.put(object("1", &["a"], &written), Some(ticket)));
        };
        let other = sites.meanwhile({
            let source = source.clone();
            move |sites| update(&sites, &source)
        });
        update(&sites, &source);
        other.join().unwrap();
        assert_ne!(sites.get(ID, "1").as_deref(), Some("1"));
        assert_ne!(sites.get(HOST, "a").as_deref(), Some("1"));
    });
}
