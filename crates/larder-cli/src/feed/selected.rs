//! The feeds that a command is about.

use crate::configuration;
use crate::failure::Failure;
use clap::Args;
use larder::connector::postgres::PostgresOptions;
use larder::connector::redis::RedisOptions;
use larder::feed::Sources;
use larder::{Config, ConnectorOptions, DatabaseFeed};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The arguments that say which feeds.
#[derive(Args, Clone, Debug)]
pub(crate) struct Selection {
    /// The configuration of the services, YAML or TOML, or - for stdin; environment variables (LARDER_…) override it, as for a service
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Only this feed of the configuration
    #[arg(long, value_name = "NAME")]
    feed: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// One feed.
pub(crate) struct Selected {
    pub(crate) name: String,
    pub(crate) database: PostgresOptions,
    pub(crate) sources: Sources,
    /// For those caches of the sources that are on Redis: the server.
    pub(crate) on_redis: BTreeMap<String, RedisOptions>,
}

impl Selection {
    /// The feeds, in alphabetical order of their names.
    pub(crate) fn selected(&self) -> Result<Vec<Selected>, Failure> {
        let config = configuration::load(&self.config)?;
        let names: Vec<String> = config.feeds().map(|(name, _)| format!("--feed {name}")).collect();
        if names.is_empty() {
            return Err(Failure::Usage(
                "the configuration has no feed: give it one below `feed`, with its `connector` and `sources`"
                    .to_owned(),
            ));
        }
        let feeds: Vec<(&str, &DatabaseFeed)> = match &self.feed {
            None => config.feeds().collect(),
            Some(name) => config.feed(name).into_iter().collect(),
        };
        if feeds.is_empty() {
            let asked = self.feed.as_deref().unwrap_or_default();
            let what = format!("the configuration has no feed called `{asked}`: say {}", names.join(" or "));
            return Err(Failure::Usage(what));
        }
        feeds.into_iter().map(|(name, feed)| Selected::of(&config, name, feed)).collect()
    }
}

impl Selected {
    pub(crate) fn of(config: &Config, name: &str, feed: &DatabaseFeed) -> Result<Self, Failure> {
        let Some(ConnectorOptions::Postgres(database)) = config.connector(&feed.connector) else {
            return Err(Failure::Usage(format!(
                "nothing says where the database of the feed {name} is: give the connector {} its url",
                feed.connector
            )));
        };
        let on_redis =
            feed.sources.caches().filter_map(|cache| match config.below(config.cache(cache)?.connector)?.1 {
                ConnectorOptions::Redis(redis) => Some((cache.to_owned(), (**redis).clone())),
                _ => None,
            });
        let (name, database) = (name.to_owned(), (**database).clone());
        // Another postgres connector may lead to the same database by another address, and a cache that is not configured here may be anywhere.
        let elsewhere = feed.sources.caches().filter(|cache| {
            let connector = config.cache(cache).and_then(|cache| config.below(cache.connector));
            matches!(connector, Some((_, ConnectorOptions::Redis(_) | ConnectorOptions::Memory(_))))
        });
        let sources = elsewhere.fold(feed.sources.clone(), Sources::elsewhere);
        Ok(Self { name, database, sources, on_redis: on_redis.collect() })
    }

    /// Hosts and database.
    pub(crate) fn place(&self) -> String {
        self.database.place()
    }
}
