//! A PostgreSQL database as the subject of the benchmark: processor time of the sessions, a plain table.

use super::Plan;
use super::rows::{MAX_AGE, Node, Sample, patience};
use crate::failure::Failure;
use crate::server::open_postgres;
use indicatif::HumanBytes;
use larder::connector::postgres::inspect::{Inspector, PlainTable};
use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::{Cache, Key, Schema};
use std::sync::Arc;
use std::time::Duration;

/// How long a statement may take. Some write, or remove, a thousand rows.
const PATIENCE: Duration = Duration::from_secs(20);

/// A PostgreSQL database, and a cache of the benchmark's own there.
pub(super) struct PostgresSubject {
    options: PostgresOptions,
    control: Inspector,
    pub(super) name: String,
}

impl PostgresSubject {
    /// Makes sure that the database can be used, and says what will be done.
    pub(super) async fn open(server: &PostgresOptions, plan: &Plan) -> Result<Self, Failure> {
        let options = server
            .clone()
            .connect_timeout(server.connect_timeout.max(PATIENCE))
            .operation_timeout(server.operation_timeout.max(Duration::from_secs(1)))
            .create(false)
            .max_in_flight(0);
        let control = open_postgres(&options).await?;
        let facts = control.facts().await?;
        if facts.tables.is_some() {
            let left = control.remove_left_benches().await?;
            if !left.is_empty() {
                eprintln!(
                    "larder bench: removed what benchmarks left that were killed ({}); their objects expire within two hours",
                    left.join(", ")
                );
            }
        }
        let name = facts.name;
        // The sessions that are measured have a name of their own, and the one that measures has not.
        let options = options.application_name(&plan.name);
        eprintln!(
            "larder bench: stores {} objects of {} bytes on {name} in {}, as the cache {}, and as many rows in the table larder.\"{}\", about \
             {} of its disk, and removes them",
            plan.objects,
            plan.size,
            options.place(),
            plan.name,
            plan.name,
            HumanBytes(plan.memory())
        );
        Ok(Self { options, control, name })
    }

    pub(super) fn address(&self) -> String {
        self.options.place()
    }

    /// A node with room for so many hints.
    pub(super) async fn node(&self, plan: &Plan, hints: usize) -> Result<Node, Failure> {
        let problem = |error: &dyn std::fmt::Display| Failure::Problem(error.to_string());
        let breaker = self.options.breaker.clone().slow_ratio(0.0);
        let postgres =
            Postgres::open(self.options.clone().hints(hints).breaker(breaker)).map_err(|error| problem(&error))?;
        let schema =
            Schema::of::<Sample>().named(plan.name.as_str()).ages(MAX_AGE, Duration::ZERO).max_object_size(u64::MAX);
        let connector = postgres.connector(schema.clone()).map_err(|error| problem(&error))?;
        let cache = Cache::new(Arc::new(connector), schema).map_err(|error| problem(&error))?;
        Node::ready(cache, &self.address(), patience(self.options.connect_timeout)).await
    }

    /// Makes the plain table.
    pub(super) async fn plain(&self, plan: &Plan) -> Result<PlainTable, Failure> {
        Ok(PlainTable::make(self.options.clone(), &plan.name, plan.objects as u64, plan.size as u64).await?)
    }

    /// The processor time that the sessions of the benchmark have used. `None`: the server does not tell this user.
    pub(super) async fn cpu(&self, plan: &Plan) -> Result<Option<Duration>, Failure> {
        Ok(self.control.cpu_of(&plan.name).await?)
    }

    /// Removes everything that was stored.
    pub(super) async fn remove(&self, plan: &Plan) -> Result<(), Failure> {
        let ids: Vec<Vec<u8>> = (0..plan.objects).map(|number| (number as u64).encode().to_vec()).collect();
        let hosts = (0..plan.objects).flat_map(Sample::hosts).map(String::into_bytes);
        let removed = self.control.remove_bench(&plan.name, ("id", &ids), ("host", &hosts.collect::<Vec<_>>())).await;
        removed.map_err(|error| {
            Failure::Problem(format!(
                "what was stored could not be removed ({error}); the objects expire within two hours. Remove the rest: \
                 DROP TABLE larder.\"{}\"",
                plan.name
            ))
        })
    }
}
