//! Tiers over a Redis server, and over a cluster.

use super::following::Follower;
use super::{Keeper, Tiered, TieredOptions, end_reading};
use crate::connector::memory::MarksOf;
use crate::connector::near::{Near, Rounds};
use crate::connector::redis::single::{SingleServer, Tier};
use crate::connector::redis::{Redis, RedisCluster, RedisConnector};
use crate::connector::remote::Server;
use crate::contract::{Answer, Following, OptionError, Schema};
use std::sync::Arc;
use tokio::task::AbortHandle;

impl Redis {
    /// A connector for one cache on this server, with a memory in front of it.
    ///
    /// # Errors
    ///
    /// The schema or an option cannot be used: see [`Schema::validate`] and [`TieredOptions::validate`].
    pub fn tiered(&self, schema: Schema, options: &TieredOptions) -> Result<Tiered<RedisConnector>, OptionError> {
        open(self.server(), schema, options)
    }
}

impl RedisCluster {
    /// A connector for one cache in this cluster, with a memory in front of it.
    ///
    /// # Errors
    ///
    /// The schema or an option cannot be used: see [`Schema::validate`] and [`TieredOptions::validate`].
    pub fn tiered(&self, schema: Schema, options: &TieredOptions) -> Result<Tiered<RedisConnector>, OptionError> {
        open(&self.server_of(&schema)?, schema, options)
    }
}

fn open(
    server: &Server<SingleServer>,
    schema: Schema,
    options: &TieredOptions,
) -> Result<Tiered<RedisConnector>, OptionError> {
    options.validate()?;
    schema.validate()?;
    let link = server.link();
    let following = Following::new(options.consistency, options.validity)?;
    let local = link.kind().local(&schema, link.clock());
    let marks = MarksOf::Seeds(local.layout.seeds());
    let near = Arc::new(Near::open(&schema, options.memory(), link.clock().clone(), marks)?);
    let (follower, rounds) = (fastrand::u64(1..).to_be_bytes(), Rounds::default());
    // Before the cache is recovered: its clock has to say that nodes follow it.
    let _ = local.tier.set(Tier { near: near.clone(), following, follower, rounds });
    let far = RedisConnector::with(server, schema, local)?;
    let follower = Arc::new(Follower::new(far.store().clone()));
    let task = link.home().spawn(follower.clone().run()).abort_handle();
    let follows = Follows { near: near.clone(), follower, task, server: server.clone() };
    Ok(Tiered::new(near, far, Box::new(follows)))
}

/// This node is one of those that follow the cache, until this is dropped.
struct Follows {
    near: Arc<Near>,
    follower: Arc<Follower>,
    task: AbortHandle,
    server: Server<SingleServer>,
}

impl Keeper for Follows {
    fn leave(&self) -> Answer<'_, ()> {
        Answer::later(async move {
            end_reading(&self.near, &self.task).await;
            self.follower.leave().await;
        })
    }
}

impl Drop for Follows {
    fn drop(&mut self) {
        self.task.abort();
        self.near.extend(0);
        // The connection must not end before that.
        let (follower, server) = (self.follower.clone(), self.server.clone());
        server.link().home().clone().spawn(async move {
            follower.leave().await;
            drop(server);
        });
    }
}
