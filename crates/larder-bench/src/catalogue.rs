//! Everything that is measured, in the order of the report, and what it means to a user.

use crate::chart::Plot;
use crate::measure::{Group, Row};
use crate::{
    allocations, breaker, cluster, cold_key, followers, hung, latency, memory, postgres_feed, postgres_get,
    postgres_size, postgres_store, postgres_trigger, redis_client, redis_get, redis_instructions, redis_many,
    redis_store, scale, tiers,
};
use larder_testing::postgres::{self, PostgresBinaries};
use larder_testing::server::{self, ServerBinary};

/// A section of the report.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) meaning: &'static str,
    pub(crate) groups: Vec<Group>,
    /// Rows that cannot be measured yet.
    pub(crate) waiting: Vec<Row>,
    pub(crate) plots: Vec<Plot>,
}

/// The sizes of an object as MessagePack, in bytes, and their names in rows.
const PAYLOADS: [(usize, &str); 3] = [(300, "300B"), (2_000, "2kB"), (20_000, "20kB")];

/// The groups of the section on tiers.
const TIERS: [fn(&ServerBinary, &str) -> Group; 6] =
    [tiers::hit, tiers::change, tiers::killed, followers::question, followers::reads, followers::changes];

/// The servers that larder is measured on.
pub(crate) struct Servers {
    redis: Vec<ServerBinary>,
    postgres: Vec<PostgresBinaries>,
}

impl Servers {
    /// All servers of this machine. The error says how to get one.
    pub(crate) fn found() -> Result<Self, String> {
        Ok(Self {
            redis: server::required().map_err(|error| error.to_string())?,
            postgres: postgres::required().map_err(|error| error.to_string())?,
        })
    }

    /// Names and versions.
    pub(crate) fn names(&self) -> Vec<String> {
        let postgres = self
            .postgres
            .iter()
            .map(|PostgresBinaries { version: (major, minor), .. }| format!("PostgreSQL {major}.{minor}"));
        self.redis.iter().map(full_name).chain(postgres).collect()
    }
}

/// All sections, for these servers. Plots are measured on the first server.
pub(crate) fn sections(servers: &Servers) -> Vec<Section> {
    let Servers { redis: servers, postgres } = servers;
    let each_postgres = |group: fn(&PostgresBinaries, &str) -> Group| -> Vec<Group> {
        postgres.iter().map(|binaries| group(binaries, &postgres_name(binaries))).collect()
    };
    let small_and_large = |group: fn(&PostgresBinaries, usize, &str) -> Group| -> Vec<Group> {
        PAYLOADS
            .into_iter()
            .filter(|(payload, _)| *payload <= 2_000)
            .flat_map(|(payload, called)| {
                postgres
                    .iter()
                    .map(move |binaries| group(binaries, payload, &format!("{called}/{}", postgres_name(binaries))))
            })
            .collect()
    };
    let each = |group: fn(&ServerBinary, &str) -> Group| -> Vec<Group> {
        servers.iter().map(|binary| group(binary, &short_name(binary))).collect()
    };
    let each_payload = |group: fn(&ServerBinary, usize, &str) -> Group| -> Vec<Group> {
        let mut groups = Vec::new();
        for (payload, called) in PAYLOADS {
            groups.extend(
                servers.iter().map(|binary| group(binary, payload, &format!("{called}/{}", short_name(binary)))),
            );
        }
        groups
    };
    let on_first = |plots: &[fn(&ServerBinary) -> Plot]| -> Vec<Plot> {
        servers.first().map(|binary| plots.iter().map(|plot| plot(binary)).collect()).unwrap_or_default()
    };
    vec![
        Section {
            title: "Reading from Redis",
            meaning: "What a get costs the server. By primary key, and by a secondary key that this process has looked up or stored \
                      before (*warm*), it should be one plain GET, so caching through larder needs no larger server than caching by hand. \
                      A secondary key is *cold* once per process and object: then its index key is read first, in a round trip of its own. \
                      With a last-use age (*aged*) a get must write now and then; here one get in ten does.",
            groups: [each_payload(redis_get::without_ages), each_payload(redis_get::with_last_use_age)]
                .into_iter()
                .flatten()
                .collect(),
            waiting: Vec::new(),
            plots: on_first(&[scale::redis_objects]),
        },
        Section {
            title: "Several objects in one call",
            meaning: "A `get_many` of 100 objects, for information: there is no bar. *Known*: the server's time by primary key, or by \
                      secondary keys that this process remembers, compared with one MGET of the same bytes. *Cold*: by secondary keys that \
                      it does not remember. Then a script reads the index keys and the objects in the same round trip (objects over 4 KiB \
                      in a second one). *Wait*: how long a single caller waits, compared with 100 gets one after the other. The difference \
                      is the cost of the round trips, here to a server on the same machine.",
            groups: each_payload(redis_many::rows),
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "Writing to Redis",
            meaning: "What it costs the server to store an object under one primary and three secondary keys with a max age, and to \
                      invalidate it through one of them. That includes everything that keeps old data out: the clock, the fences, and the \
                      objects that held one of the keys before. *New*: nothing of the object is stored yet. *Index keys right*: the usual \
                      case, an object that is stored again. A *set* is sent with the newest ticket that its node has seen. A cache is \
                      filled once per miss and read many times: at ten gets per fill, a fill that costs 7 GETs costs 0.7 GETs for each \
                      get. The keys of the plain GET have no lifetime, but all other keys on the same server have one. That alone makes \
                      the GET dearer than on a server without lifetimes (compare the GET of *Reading from Redis*), and the ratio smaller.",
            groups: each_payload(redis_store::writing),
            waiting: Vec::new(),
            plots: on_first(&[scale::redis_keys, scale::redis_payload]),
        },
        Section {
            title: "Instructions of the server",
            meaning: "The same operations in instructions of the server, counted by callgrind. The ratio of a script's processor time to a \
                      GET's differs between processors by up to a factor of 1.4. The ratio of their instructions is the same everywhere, so \
                      a change for the worse is found in a minute, on any machine. The kernel's work for a command is not counted, and is \
                      most of a GET's time. So the ratios are larger than those above, and the bars only keep what was reached.",
            groups: each_payload(redis_instructions::rows),
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "Memory in Redis",
            meaning: "How much of the server's `used_memory` an object under four keys takes, compared with the same bytes under one key: the \
                      cost of three more ways to find it. *MessagePack alone* leaves out larder's header and key list, too, and is what a \
                      cache by hand under one key would take. Use these figures to size `maxmemory`.",
            groups: each_payload(redis_store::memory),
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "The client's side",
            meaning: "Gets per second of one client thread with 64 tasks on one connection, decoding included, compared with the bare `redis` \
                      client that GETs and decodes the same object. At a ratio of 0.85, a get takes 18 % more of your service's processor \
                      time than with the bare client: for breaker, time-out, checksum, key check and counters. If the processor waits for \
                      the server anyway, this makes no difference. The rows with *tls* are over TLS on both sides.",
            groups: each_payload(redis_client::throughput).into_iter().chain(each(redis_client::over_tls)).collect(),
            waiting: Vec::new(),
            plots: on_first(&[scale::redis_tasks, scale::redis_connections]),
        },
        Section {
            title: "When Redis hangs",
            meaning: "The server is stopped (SIGSTOP): connections stay open and nothing is answered, the worst that a cache can do \
                      to a service. *hung-median* and *hung-p99*: how long a request waits once the breaker has opened, compared with the \
                      wait without any cache. One request gives both figures, because its source, which takes 2 ms, is timed as well. \
                      *hung-answer*: how long a get takes to answer with a miss, compared with one microsecond. Before the breaker opens, \
                      at most the requests under way wait, each for the operation time-out.",
            groups: each(hung::rows),
            waiting: Vec::new(),
            plots: on_first(&[latency::plot]),
        },
        Section {
            title: "A key that everybody wants",
            meaning: "How often the source is read when 1,000 readers in each of 4 processes ask for one object that is not cached. Each process \
                      loads at most once, so the source sees one load per process, not one per request. With a lease the processes take \
                      turns, and all but the first find what the first has loaded.",
            groups: each(cold_key::rows),
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "Reading from PostgreSQL",
            meaning: "What a get costs the server, compared with a plain SELECT of the same bytes by an integer, from an unlogged table. Two \
                      tasks, each with one operation under way. *Wait* is how long the caller waits. The difference is the price of \
                      invalidating without any lock: each get looks for fences of the object's keys. *Zitadel's* is the layout of the cache \
                      that larder began with, written anew: its get is an UPDATE.",
            groups: small_and_large(postgres_get::rows),
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "Writing to PostgreSQL",
            meaning: "The same for what stores an object under one primary and three secondary keys, and for what invalidates it. *Ticket and \
                      fill* is what a load costs beside the load: the lookup that misses, and the fill. *Again*: the object is there already. \
                      *From SQL*: `SELECT larder.invalidate(…)`, as an application's transaction calls it, with the row for the feed.",
            groups: small_and_large(postgres_store::rows),
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "Room in PostgreSQL",
            meaning: "Tables and indexes for each object, compared with a table of the same bytes under one key. And how the tables of objects and \
                      keys grow when each object is set ten times, with thirty-five generations and sweeps in between.",
            groups: small_and_large(postgres_size::of_an_object)
                .into_iter()
                .chain(each_postgres(postgres_size::after_many_sets))
                .collect(),
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "Feed",
            meaning: "How long a change takes from the answer of its commit until a cache in memory has forgotten it, compared with the interval of \
                      the polls (50 ms). What the polls of ten nodes take of one core of the server. And what the triggers of a declared \
                      source cost those who write to its table, on a server that waits for the disk.",
            groups: each_postgres(postgres_feed::rows)
                .into_iter()
                .chain(each_postgres(postgres_trigger::rows))
                .collect(),
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "Memory connector",
            meaning: "A get through the whole of larder, with both ages, compared with the bare get of caches that find an object by one key \
                      and have no ages: the cost of finding an object by every key. And whether two threads do twice as many gets as one.",
            groups: vec![memory::primary(), memory::secondary(), memory::every_key(), memory::threads()],
            waiting: Vec::new(),
            plots: vec![scale::memory_objects()],
        },
        Section {
            title: "Cluster",
            meaning: "What an operation costs the primary of its cache, compared with the same on one server, and a get with a plain GET of the same bytes in the \
                      cluster. And how many gets three caches carry that are on three primaries, compared with one: for a second of processor time of \
                      each server that takes part, since a machine with two processors cannot let three servers work at once.",
            groups: each(cluster::costs).into_iter().chain(each(cluster::primaries)).collect(),
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "Tiers",
            meaning: "Memory of each node in front of Redis. A *hit* through the whole of larder, compared with the memory connector alone: the price is one look at \
                      the precise clock. And how long an invalidation takes until it is *applied*, at the median, compared with one on a server \
                      that no node follows. *Strict* waits until ten other nodes, all in this process and on this machine, have acknowledged it. *Killed*: how long an invalidation takes where a \
                      node has just gone without a word, compared with the validity and 50 ms. What a hundred followers cost the server: each of their questions, and what each of them adds to a change, \
                      compared with a GET whose client waits for its reply; and what a get of another node costs beside them.",
            groups: TIERS.into_iter().flat_map(each).collect(),
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "Breaker",
            meaning: "What the breaker adds to every call while it is closed, and how fast it refuses while it is open, compared with two \
                      other breakers in Rust. *Capped*: with a limit on calls under way, for which the peers get a plain counter.",
            groups: vec![breaker::closed(), breaker::open()],
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "Allocations",
            meaning: "How often an operation allocates memory, and how many bytes: the load on your allocator. Objects of 300 B with four \
                      keys. Everything that the operation causes counts, including decoding and the connection's task. One operation \
                      runs after the other, so that nothing is shared.",
            groups: servers.first().map(allocations::rows).into_iter().collect(),
            waiting: Vec::new(),
            plots: Vec::new(),
        },
    ]
}

/// A server as a part of a row's name: `redis-7.0.15`.
fn short_name(binary: &ServerBinary) -> String {
    full_name(binary).to_lowercase().replace(' ', "-")
}

/// A version as a part of a row's name: `postgresql-15.18`.
fn postgres_name(binaries: &PostgresBinaries) -> String {
    let (major, minor) = binaries.version;
    format!("postgresql-{major}.{minor}")
}

/// A server's name and version: `Redis 7.0.15`.
pub(crate) fn full_name(binary: &ServerBinary) -> String {
    let (major, minor, patch) = binary.version;
    format!("{:?} {major}.{minor}.{patch}", binary.flavour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_testing::server::Flavour;
    use std::collections::HashSet;

    fn server(flavour: Flavour, version: (u32, u32, u32)) -> ServerBinary {
        ServerBinary { path: "server".into(), flavour, version }
    }

    #[test]
    fn every_row_and_every_plot_has_a_name_of_its_own() {
        let servers = Servers {
            redis: vec![server(Flavour::Redis, (7, 0, 15)), server(Flavour::Valkey, (8, 1, 1))],
            postgres: vec![PostgresBinaries { folder: "bin".into(), version: (15, 18) }],
        };
        let mut names = HashSet::new();
        for section in sections(&servers) {
            let rows = section.groups.iter().flat_map(|group| group.rows.iter().map(|row| row.name.clone()));
            let others = section.waiting.iter().map(|row| row.name.clone());
            let plots = section.plots.iter().map(|plot| plot.name.to_owned());
            for name in rows.chain(others).chain(plots) {
                assert!(names.insert(name.clone()), "{name} is there twice");
            }
        }
        assert!(names.contains("redis-get-primary/300B/redis-7.0.15"));
        assert!(names.contains("postgres-get-primary/300B/postgresql-15.18") && names.contains("latency"));
    }
}
