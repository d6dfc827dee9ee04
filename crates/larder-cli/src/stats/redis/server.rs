//! What a server reports about itself, as far as it matters for caches.

use crate::check::{field, name};
use crate::connection;
use crate::failure::Failure;
use indicatif::{HumanBytes, HumanCount};
use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect::CLIENT_NAME;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What a server reports about itself. What it does not report is missing.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct ServerFacts {
    /// `Redis 7.0.15`
    name: String,
    uptime_seconds: Option<u64>,
    /// In bytes.
    used_memory: Option<u64>,
    /// In bytes; 0: no limit.
    maxmemory: Option<u64>,
    maxmemory_policy: Option<String>,
    /// Keys that were evicted since the server was started.
    evicted_keys: Option<u64>,
    /// Keys that have expired since the server was started.
    expired_keys: Option<u64>,
    /// Reads of all clients that found their key.
    keyspace_hits: Option<u64>,
    keyspace_misses: Option<u64>,
    connected_clients: Option<u64>,
    /// The number of larder's connections for each `client_name`. Missing if the server does not tell which connections are larder's: Redis
    /// before 7.2, or no right to ask.
    larder_clients: Option<BTreeMap<String, u64>>,
}

pub(super) async fn ask(config: &RedisOptions) -> Result<ServerFacts, Failure> {
    let failed = |error: redis::RedisError| Failure::Problem(format!("the server at {}: {error}", config.place()));
    let mut connection = connection::open(config).await.map_err(failed)?;
    let mut info = String::new();
    for section in ["server", "memory", "stats", "clients"] {
        // The user may lack the right to ask. Then the facts of this section are missing.
        if let Ok(text) = redis::cmd("INFO").arg(section).query_async::<String>(&mut connection).await {
            info.push_str(&text);
        }
    }
    let mut facts = read(&info);
    let list = redis::cmd("CLIENT").arg("LIST").query_async::<String>(&mut connection).await;
    facts.larder_clients = list.ok().and_then(|list| larder_clients(&list));
    Ok(facts)
}

fn read(info: &str) -> ServerFacts {
    let number = |name: &str| field(info, name).and_then(|number| number.parse().ok());
    ServerFacts {
        name: name(info),
        uptime_seconds: number("uptime_in_seconds"),
        used_memory: number("used_memory"),
        maxmemory: number("maxmemory"),
        maxmemory_policy: field(info, "maxmemory_policy").map(str::to_owned),
        evicted_keys: number("evicted_keys"),
        expired_keys: number("expired_keys"),
        keyspace_hits: number("keyspace_hits"),
        keyspace_misses: number("keyspace_misses"),
        connected_clients: number("connected_clients"),
        larder_clients: None,
    }
}

/// The number of connections of services, by name. This command's own connections do not count.
fn larder_clients(list: &str) -> Option<BTreeMap<String, u64>> {
    let mut clients = BTreeMap::new();
    let mut told = false;
    for client in list.lines() {
        let field = |name: &str| client.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        let Some(library) = field("lib-name") else { continue };
        told = true;
        let name = field("name").unwrap_or_default();
        if library == "larder" && name != CLIENT_NAME {
            *clients.entry(name.to_owned()).or_default() += 1;
        }
    }
    told.then_some(clients)
}

impl ServerFacts {
    pub(super) fn text(&self) -> String {
        let mut lines = Vec::new();
        let uptime = self
            .uptime_seconds
            .map(|seconds| format!("up for {}", indicatif::HumanDuration(std::time::Duration::from_secs(seconds))));
        lines.push(("server", [Some(self.name.clone()), uptime].into_iter().flatten().collect::<Vec<_>>().join(", ")));
        if let Some(used) = self.used_memory {
            let mut memory = format!("{} used", HumanBytes(used));
            let _ = match self.maxmemory {
                Some(0) => write!(memory, ", no limit"),
                Some(limit) => write!(memory, " of {}", HumanBytes(limit)),
                None => Ok(()),
            };
            let _ = self.maxmemory_policy.iter().try_for_each(|policy| write!(memory, ", {policy}"));
            lines.push(("memory", memory));
        }
        if let (Some(evicted), Some(expired)) = (self.evicted_keys, self.expired_keys) {
            lines.push(("removed", format!("{} evicted, {} expired", HumanCount(evicted), HumanCount(expired))));
        }
        if let (Some(hits), Some(misses)) = (self.keyspace_hits, self.keyspace_misses) {
            let reads = format!("{} hits, {} misses, of all clients", HumanCount(hits), HumanCount(misses));
            lines.push(("reads", reads));
        }
        if let Some(connected) = self.connected_clients {
            let larder = self.larder_clients.as_ref().map_or_else(
                || "; the server does not tell which of them are larder's".to_owned(),
                |clients| {
                    let named = clients.iter().map(|(name, count)| match name.as_str() {
                        "" => format!("{count} without a name"),
                        name => format!("{count} {name}"),
                    });
                    let named: Vec<String> = named.collect();
                    let total: u64 = clients.values().sum();
                    let names = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
                    format!(", {total} of them larder's{names}")
                },
            );
            lines.push(("clients", format!("{connected}{larder}")));
        }
        lines.iter().map(|(name, text)| format!("  {name:10} {text}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_connections_they_are() {
        let list = "id=3 addr=x name=service fd=8 lib-name=larder lib-ver=0.1.0 io-thread=0\n\
                    id=4 addr=x name= fd=9 lib-name=larder lib-ver=0.1.0\n\
                    id=5 addr=x name=service fd=9 lib-name=larder lib-ver=0.1.0\n\
                    id=6 addr=x name=larder-inspector fd=9 lib-name=larder lib-ver=0.1.0\n\
                    id=7 addr=x name=other fd=9 lib-name=redis-py lib-ver=5\n";
        let expected = BTreeMap::from([("service".to_owned(), 2), (String::new(), 1)]);
        assert_eq!(larder_clients(list), Some(expected));
        assert_eq!(larder_clients("id=3 addr=x name=service fd=8\n"), None);
    }
}
