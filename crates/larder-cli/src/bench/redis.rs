//! A Redis server as the subject of the benchmark: processor time, room, plain keys. In a cluster it is the primary of the slot in which the
//! benchmark's cache is: another cache would be measured on another primary, or on the same.

use super::Plan;
use super::rows::{MAX_AGE, Node, Sample, each, patience};
use crate::check::{field, name};
use crate::connection;
use crate::failure::Failure;
use crate::server::open_redis;
use indicatif::HumanBytes;
use larder::connector::redis::inspect::cluster;
use larder::connector::redis::{Redis, RedisCluster, RedisOptions};
use larder::{Cache, Entry, Schema};
use redis::aio::MultiplexedConnection;
use std::sync::Arc;
use std::time::Duration;

/// If the server has no memory limit, one part in this many of the machine's memory must stay free.
const SPARE: u64 = 5;

/// A Redis server, and a prefix of the benchmark's own there.
pub(super) struct RedisSubject {
    options: RedisOptions,
    /// The same as `options`. In a cluster, for the primary that is measured.
    server: RedisOptions,
    control: MultiplexedConnection,
    pub(super) name: String,
}

/// Plain keys under the benchmark's prefix.
#[derive(Clone)]
pub(super) struct PlainKeys {
    connection: MultiplexedConnection,
    /// What the names of the keys begin with.
    base: String,
}

impl RedisSubject {
    /// Makes sure that the server can be used, and says what will be done.
    pub(super) async fn open(server: &RedisOptions, plan: &Plan) -> Result<Self, Failure> {
        // Fails early on a server that larder would not use.
        drop(open_redis(server).await?);
        let options = server
            .clone()
            .prefix(plan.name.clone())
            .client_name("larder-bench".to_owned())
            .operation_timeout(server.operation_timeout.max(Duration::from_secs(1)))
            .max_in_flight(0);
        let server = primary(&options).await?;
        let mut control = connection::open(&server).await.map_err(|error| said(&server, &error))?;
        let takes = plan.memory();
        let name = room(&mut control, &server, takes).await?;
        let which = if server.cluster.is_some() { ", the primary of the slot of their cache" } else { "" };
        eprintln!(
            "larder bench: stores {} objects of {} bytes on {name} at {}{which}, database {}, under {}:*, about {} of its memory, \
             and removes them",
            plan.objects,
            plan.size,
            server.place(),
            options.database,
            options.prefix,
            HumanBytes(takes)
        );
        may_store(&mut control, &server).await?;
        Ok(Self { options, server, control, name })
    }

    pub(super) fn address(&self) -> String {
        self.server.place()
    }

    /// A node with room for so many hints.
    pub(super) async fn node(&self, hints: usize) -> Result<Node, Failure> {
        let problem = |error: &dyn std::fmt::Display| Failure::Problem(error.to_string());
        // A slow server is to be measured, so the breaker must not open for slow answers.
        let breaker = self.options.breaker.clone().slow_ratio(0.0);
        let options = self.options.clone().hints(hints).breaker(breaker);
        let schema = Schema::of::<Sample>().ages(MAX_AGE, Duration::ZERO).max_object_size(u64::MAX);
        let connector = if options.cluster.is_some() {
            RedisCluster::open(options).map_err(|error| problem(&error))?.connector(schema.clone())
        } else {
            Redis::open(options).map_err(|error| problem(&error))?.connector(schema.clone())
        };
        let connector = connector.map_err(|error| problem(&error))?;
        let cache = Cache::new(Arc::new(connector), schema).map_err(|error| problem(&error))?;
        Node::ready(cache, &self.address(), patience(self.options.connect_timeout)).await
    }

    /// Stores the plain keys.
    pub(super) async fn plain(&self, plan: &Plan) -> Result<PlainKeys, Failure> {
        let connection = connection::open(&self.server).await.map_err(|error| said(&self.server, &error))?;
        let plain = PlainKeys { connection, base: base(&self.server) };
        let value: Arc<Vec<u8>> = Arc::new(vec![b'x'; plan.size]);
        let stored = plain.clone();
        let store = move |number| {
            let (mut plain, value) = (stored.clone(), value.clone());
            async move {
                let mut set = redis::cmd("SET");
                set.arg(plain.key(number)).arg(&**value).arg("EX").arg(MAX_AGE.as_secs());
                set.exec_async(&mut plain.connection).await.is_ok()
            }
        };
        match each(plan, store).await {
            0 => Ok(plain),
            failed => Err(Failure::Problem(format!("the server did not store {failed} of {} values", plan.objects))),
        }
    }

    /// The processor time of the server's process since it started.
    pub(super) async fn cpu(&mut self) -> Result<Duration, Failure> {
        let asked = redis::cmd("INFO").arg("cpu").query_async::<String>(&mut self.control).await;
        let info = asked.map_err(|error| said(&self.server, &error))?;
        let part = |name: &str| {
            field(&info, name)?.parse().ok().and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok())
        };
        match (part("used_cpu_sys"), part("used_cpu_user")) {
            (Some(system), Some(user)) => Ok(system + user),
            _ => Err(Failure::Problem("the server does not say how much processor time it uses (INFO cpu)".to_owned())),
        }
    }

    /// Removes everything that was stored.
    pub(super) async fn remove(&self) -> Result<(), Failure> {
        let removed = connection::remove_all(&self.server).await;
        removed.map(drop).map_err(|error| {
            Failure::Problem(format!(
                "what was stored could not be removed ({error}); the objects expire within two hours. Remove the rest: \
                 redis-cli --scan --pattern '{}:*' | xargs redis-cli unlink{}",
                self.options.prefix,
                if self.server.cluster.is_some() { format!(", on {}", self.address()) } else { String::new() }
            ))
        })
    }
}

impl PlainKeys {
    /// The size of a value.
    pub(super) async fn get(&mut self, number: usize) -> Option<usize> {
        let key = self.key(number);
        let value = redis::cmd("GET").arg(key).query_async::<Vec<u8>>(&mut self.connection).await;
        value.ok().map(|value| value.len())
    }

    fn key(&self, number: usize) -> String {
        format!("{}:plain:{number}", self.base)
    }
}

/// Options for the server on which the benchmark's cache is.
async fn primary(options: &RedisOptions) -> Result<RedisOptions, Failure> {
    let Some(report) = cluster(options).await? else { return Ok(options.clone()) };
    let primary = report.primary_of(Sample::CACHE);
    let mut primaries = report.primaries().into_iter().map(|(primary, _)| primary);
    primaries.find(|one| Some(&one.address) == primary.as_ref()).ok_or_else(|| {
        let slot = report.slot_of(Sample::CACHE);
        Failure::Problem(format!(
            "nobody serves slot {slot} of the cluster, where the objects would be; see `larder check`"
        ))
    })
}

/// What the names of the benchmark's own keys begin with. In a cluster they are in the slot of its cache.
fn base(options: &RedisOptions) -> String {
    match options.cluster {
        Some(_) => format!("{}:{{{}}}", options.prefix, Sample::CACHE),
        None => options.prefix.clone(),
    }
}

/// Fails if the server could run out of memory, or evict what others have stored. Returns the server's name and version.
async fn room(control: &mut MultiplexedConnection, config: &RedisOptions, takes: u64) -> Result<String, Failure> {
    let mut info = String::new();
    for section in ["server", "memory"] {
        let said_this = redis::cmd("INFO").arg(section).query_async::<String>(control).await;
        info += &said_this.map_err(|error| said(config, &error))?;
    }
    let number = |name: &str| field(&info, name).and_then(|number| number.parse::<u64>().ok());
    let Some(used) = number("used_memory") else {
        return Err(Failure::Problem("the server does not say how much memory it uses (INFO memory)".to_owned()));
    };
    let limit = match (number("maxmemory").unwrap_or(0), number("total_system_memory").unwrap_or(0)) {
        (0, 0) => None,
        (0, machine) => Some(machine - machine / SPARE),
        (limit, _) => Some(limit),
    };
    match limit {
        Some(limit) if used.saturating_add(2 * takes) > limit => Err(Failure::Problem(format!(
            "the server uses {} of {}, and this would take {} more, twice which must be free; give fewer --objects",
            HumanBytes(used),
            HumanBytes(limit),
            HumanBytes(takes)
        ))),
        _ => Ok(name(&info)),
    }
}

/// Stores one key under the benchmark's prefix: the configured user may have rights for the services' prefix only.
async fn may_store(control: &mut MultiplexedConnection, config: &RedisOptions) -> Result<(), Failure> {
    let mut set = redis::cmd("SET");
    let stored = set.arg(format!("{}:probe", base(config))).arg("x").arg("EX").arg(60).exec_async(control).await;
    stored.map_err(|error| {
        let failure = said(config, &error);
        Failure::Problem(format!(
            "{failure}; a benchmark needs a user who may store keys that begin with larder-bench-"
        ))
    })
}

fn said(config: &RedisOptions, error: &redis::RedisError) -> Failure {
    Failure::Problem(format!("the server at {}: {error}", config.place()))
}
