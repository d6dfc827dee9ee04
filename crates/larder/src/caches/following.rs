//! Caches that follow a feed are opened.

use super::Caches;
use super::connectors::ConnectorName;
#[cfg(feature = "postgres")]
use super::connectors::ConnectorOptions;
use super::error::OpenError;
use super::feeds::DatabaseFeed;
use super::options::CacheOptions;
use crate::contract::{Connector, Schema};
#[cfg(feature = "postgres")]
use crate::feed::Feed;
use crate::nearest::fold;
use std::sync::Arc;
use std::time::Duration;

/// A connector, how often its cache is pruned, and the connector of the database whose feed the cache follows.
type Following = (Arc<dyn Connector>, Duration, Option<ConnectorName>);

impl Caches {
    /// The connector for a cache with these options, which follows the feed that they name.
    pub(super) fn following(&self, options: &CacheOptions, schema: &Schema) -> Result<Following, OpenError> {
        let refused = |problem: String| OpenError::Follow {
            cache: schema.cache.to_string(),
            feed: options.feed.clone().unwrap_or_default(),
            problem,
        };
        let followed = self.plan.followed(options).map_err(refused)?;
        // A cache in the feed's own database hears of each change by itself, unless it has memory in front. One that is switched off has nothing to forget.
        match followed.filter(|(_, feed)| feed.connector != options.connector && !options.connector.is_none()) {
            Some((name, feed)) => self.follow(name, feed, options, schema),
            None => {
                let (connector, prune_interval) = self.connector(&options.connector, schema)?;
                Ok((connector, prune_interval, None))
            }
        }
    }

    #[cfg(not(feature = "postgres"))]
    fn follow(&self, name: &str, _: &DatabaseFeed, _: &CacheOptions, schema: &Schema) -> Result<Following, OpenError> {
        let problem = "and larder was built without its feature `postgres`: turn that on in `Cargo.toml`, or give the cache no `feed`";
        Err(OpenError::Follow { cache: schema.cache.to_string(), feed: name.to_owned(), problem: problem.to_owned() })
    }

    #[cfg(feature = "postgres")]
    fn follow(
        &self,
        name: &str,
        feed: &DatabaseFeed,
        options: &CacheOptions,
        schema: &Schema,
    ) -> Result<Following, OpenError> {
        let refused = |error| OpenError::Option { cache: schema.cache.to_string(), error };
        let follow = options.follow();
        let opened = self.feed(name, feed, &schema.cache)?;
        let database = Some(feed.connector.clone());
        if let (Some(over), Some(ConnectorOptions::Tiered(tier))) =
            (self.plan.tier_over_database(options), self.plan.connector(&options.connector))
            && let Some(ConnectorOptions::Postgres(server)) = self.plan.connector(over)
        {
            let tiered = opened.tiered(schema.clone(), tier.options.memory(), follow).map_err(refused)?;
            return Ok((Arc::new(tiered), server.prune_interval, database));
        }
        let (followed, prune_interval) = match self.plan.connector(&options.connector) {
            Some(ConnectorOptions::Memory(memory)) => {
                let ages = !schema.max_age.is_zero() || !schema.last_use_age.is_zero();
                let interval = if ages { memory.prune_interval } else { Duration::ZERO };
                (opened.memory_on_clock(schema.clone(), memory.clone(), follow, self.clock.clone()), interval)
            }
            _ => {
                let (connector, interval) = self.connector(&options.connector, schema)?;
                (opened.follow(schema.clone(), connector, follow), interval)
            }
        };
        Ok((Arc::new(followed.map_err(refused)?), prune_interval, database))
    }

    /// The feed of this name. It begins to poll when the first cache follows it.
    #[cfg(feature = "postgres")]
    fn feed(&self, name: &str, feed: &DatabaseFeed, cache: &str) -> Result<&Feed, OpenError> {
        let refused = |problem: String| OpenError::Follow { cache: cache.to_owned(), feed: name.to_owned(), problem };
        let missing = || refused("which is not there".to_owned());
        let place = self.feeds.get(&fold(name)).ok_or_else(missing)?;
        if let Some(opened) = place.get() {
            return Ok(opened);
        }
        let Some(ConnectorOptions::Postgres(options)) = self.plan.connector(&feed.connector) else {
            let to_do = self.plan.unaddressed(&feed.connector).unwrap_or("give its connector");
            return Err(refused(format!("whose database is not known: {to_do}")));
        };
        let database = self.database(&feed.connector, options)?;
        let _runtime = self.runtime.enter();
        let opened = Feed::open(database, feed.options.clone())
            .map_err(|error| OpenError::Feed { feed: name.to_owned(), problem: format!("cannot be used: {error}") })?;
        // The caches are locked while one is opened, so nobody else has opened the feed meanwhile.
        Ok(place.get_or_init(|| opened))
    }

    /// Whether the sources of all feeds name this cache and its indexes exactly. The names are part of what the triggers tell, and nobody would hear of others.
    pub(super) fn expect_sources(&self, schema: &Schema) -> Result<(), OpenError> {
        for (feed, declared) in self.plan.feeds() {
            let of_cache = declared.sources.all().filter(|(cache, _)| fold(cache) == fold(&schema.cache));
            for (cache, source) in of_cache {
                let refused = |problem: String| OpenError::Source {
                    cache: schema.cache.to_string(),
                    feed: feed.to_owned(),
                    table: source.table.clone(),
                    problem,
                };
                if cache != &*schema.cache {
                    return Err(refused(format!(
                        "calls the cache `{cache}`, and the triggers would tell nobody: give `{}`",
                        schema.cache
                    )));
                }
                if !schema.indexes().contains(&source.index.as_str()) {
                    let known = schema.indexes().join(" or ");
                    return Err(refused(format!(
                        "names the index `{}`, which the cache does not have: give {known}",
                        source.index
                    )));
                }
            }
        }
        Ok(())
    }
}
