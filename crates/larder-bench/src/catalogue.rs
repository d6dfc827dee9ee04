//! All that is measured, in the order it is told, and what it means to a user.

use crate::chart::Plot;
use crate::measure::{Group, Row};
use crate::{
    allocations, breaker, cold_key, hung, latency, memory, redis_client, redis_get, redis_instructions, redis_many,
    redis_store, scale,
};
use larder_testing::server::ServerBinary;

/// What belongs together for a reader.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) meaning: &'static str,
    pub(crate) groups: Vec<Group>,
    /// Rows that cannot be measured yet.
    pub(crate) waiting: Vec<Row>,
    pub(crate) plots: Vec<Plot>,
}

/// Bytes of an object as MessagePack, and how they are called.
const PAYLOADS: [(usize, &str); 3] = [(300, "300B"), (2_000, "2kB"), (20_000, "20kB")];

/// Everything, for these servers. Plots are made on the first of them.
pub(crate) fn sections(servers: &[ServerBinary]) -> Vec<Section> {
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
                      With a last-use age (*aged*) a get has to write now and then; here one in ten does.",
            groups: [each_payload(redis_get::without_ages), each_payload(redis_get::with_last_use_age)]
                .into_iter()
                .flatten()
                .collect(),
            waiting: Vec::new(),
            plots: on_first(&[scale::redis_objects]),
        },
        Section {
            title: "Several objects in one call",
            meaning: "A `get_many` of 100 objects, for information: there is no bar. *Known*: by primary key, or by secondary keys that this \
                      process remembers, over one MGET of the same bytes: the server's time. *Cold*: by secondary keys that it does not \
                      remember, where a script reads the index keys and the objects in the same round trip (objects over 4 KiB in a \
                      second one). *Wait*: how long one caller waits who is alone, over 100 gets one after the other: what the round trips \
                      cost, here to a server on the same machine.",
            groups: each_payload(redis_many::rows),
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "Writing to Redis",
            meaning: "What it costs the server to store an object under one primary and three secondary keys with a max age, and to \
                      invalidate it through one of them, with everything that keeps old data out: clock, fences, whoever else \
                      holds one of the keys. *New*: nothing of the object is there. *Index keys right*: the usual case, an object stored \
                      again. A *set* goes with the newest ticket that its node has seen. A cache is filled once per miss \
                      and read many times: at ten gets per fill, a fill that costs 7 GETs costs 0.7 GETs for each get. The plain GET's own keys have no lifetime, but it is measured on the same server, where all other keys have one: that alone makes it \
                      dearer than in a server without lifetimes (compare the GET of *Reading from Redis*), and the ratio smaller.",
            groups: each_payload(redis_store::writing),
            waiting: Vec::new(),
            plots: on_first(&[scale::redis_keys, scale::redis_payload]),
        },
        Section {
            title: "Instructions of the server",
            meaning: "The same operations in instructions of the server, counted by callgrind. The ratio of a script's processor time to a GET's \
                      differs from processor to processor by as much as 1.4; that of their instructions is the same everywhere, so a \
                      change for the worse is found in a minute, on any machine. What the kernel does for a command is not counted, which is most \
                      of a GET's time: the ratios are larger than those above, and their bars only keep what was reached.",
            groups: each_payload(redis_instructions::rows),
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "Memory in Redis",
            meaning: "What an object under four keys takes of the server's `used_memory`, over the same bytes under one key: what three more \
                      ways to find it cost. *MessagePack alone* leaves out larder's header and key list as well, and is what a cache \
                      by hand under one key would take. With this you can size `maxmemory`.",
            groups: each_payload(redis_store::memory),
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "The client's side",
            meaning: "Gets a second of one client thread with 64 tasks on one connection, decoding included, over those of the bare `redis` \
                      client that GETs and decodes the same object. At 0.85 a get takes your service's processor 18 % longer than it would take \
                      the bare client: that is breaker, time-out, checksum, key check and counters. Where the processor waits for the \
                      server anyway, nothing of it is seen.",
            groups: each_payload(redis_client::throughput),
            waiting: Vec::new(),
            plots: on_first(&[scale::redis_tasks, scale::redis_connections]),
        },
        Section {
            title: "When Redis hangs",
            meaning: "The server is stopped (SIGSTOP): connections stay open and nothing is answered, the worst that a cache can do \
                      to a service. *hung-median* and *hung-p99*: what a request waits for once the breaker has opened, over what it would \
                      have waited for without any cache: the same request tells both, since its source, which takes 2 ms, is timed as well. *hung-answer*: how long a get takes to say \
                      that it has nothing, against one microsecond. Before that, at most the requests under way wait, each for \
                      the operation time-out.",
            groups: each(hung::rows),
            waiting: Vec::new(),
            plots: on_first(&[latency::plot]),
        },
        Section {
            title: "A key that everybody wants",
            meaning: "How often the source is read when 1,000 readers in each of 4 processes ask for one object that is not cached. Each process \
                      loads at most once, so the source sees as many loads as there are processes, not as many as there are requests; with a \
                      lease the processes load one after the other, and all but the first find what it has loaded.",
            groups: each(cold_key::rows),
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "Memory connector",
            meaning: "A get through the whole of larder, both ages on, over the bare get of caches that find an object by one key and have no \
                      ages: what being found by every key costs, and whether two threads get twice as much done as one.",
            groups: vec![memory::primary(), memory::secondary(), memory::threads()],
            waiting: Vec::new(),
            plots: vec![scale::memory_objects()],
        },
        Section {
            title: "Breaker",
            meaning: "What the breaker adds to every call while it is closed, and how fast it refuses while it is open, over two breakers \
                      of the same language. *Capped*: with a limit on calls under way, which the peers get from a plain counter.",
            groups: vec![breaker::closed(), breaker::open()],
            waiting: Vec::new(),
            plots: Vec::new(),
        },
        Section {
            title: "Allocations",
            meaning: "How often an operation asks for memory, and for how many bytes: what it leaves to your allocator under load. Objects \
                      of 300 B with four keys; everything the operation causes counts, decoding and the connection's task included. \
                      One operation after the other, so that nothing is shared.",
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

/// `Redis 7.0.15`.
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
        let servers = [server(Flavour::Redis, (7, 0, 15)), server(Flavour::Valkey, (8, 1, 1))];
        let mut names = HashSet::new();
        for section in sections(&servers) {
            let rows = section.groups.iter().flat_map(|group| group.rows.iter().map(|row| row.name.clone()));
            let others = section.waiting.iter().map(|row| row.name.clone());
            let plots = section.plots.iter().map(|plot| plot.name.to_owned());
            for name in rows.chain(others).chain(plots) {
                assert!(names.insert(name.clone()), "{name} is there twice");
            }
        }
        assert!(names.contains("redis-get-primary/300B/redis-7.0.15") && names.contains("latency"));
    }
}
