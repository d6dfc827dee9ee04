//! The server that a command goes to, and what all kinds of servers can be asked: about a cache, an index, a key.
//!
//! What only one kind of server can be asked is with the command that asks it.

use crate::check::why_unreachable;
use crate::failure::Failure;
use larder::connector::inspect::Found;
use larder::connector::postgres::PostgresOptions;
use larder::connector::postgres::inspect::{self as postgres, InspectError, TABLES};
use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect as redis;

/// A server of a configuration.
#[derive(Clone, Debug)]
pub(crate) enum Server {
    Redis(Box<RedisOptions>),
    Postgres(Box<PostgresOptions>),
}

/// A connection to a server.
pub(crate) enum Inspector {
    Redis(Box<redis::Inspector>),
    Postgres(Box<postgres::Inspector>),
}

/// A cache on a server.
pub(crate) enum Cache<'a> {
    Redis(redis::InspectedCache),
    Postgres(postgres::InspectedCache<'a>),
}

/// An index of a cache.
pub(crate) enum Index<'a> {
    Redis(redis::InspectedIndex),
    Postgres(postgres::InspectedIndex<'a>),
}

/// The same call on whichever it is.
macro_rules! either {
    ($self:expr, $inner:ident => $call:expr) => {
        match $self {
            Self::Redis($inner) => $call,
            Self::Postgres($inner) => $call,
        }
    };
}

impl Server {
    /// Connects. The failure says in one line what is wrong and what to do.
    pub(crate) async fn open(&self) -> Result<Inspector, Failure> {
        match self {
            Self::Redis(options) => open_redis(options).await.map(|inspector| Inspector::Redis(inspector.into())),
            Self::Postgres(options) => {
                open_postgres(options).await.map(|inspector| Inspector::Postgres(inspector.into()))
            }
        }
    }

    /// The server's place, for people.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Redis(options) => place(options),
            Self::Postgres(options) => options.place(),
        }
    }
}

/// Where the data of a redis connector is, for people.
pub(crate) fn place(options: &RedisOptions) -> String {
    match options.cluster {
        Some(_) => format!("the cluster with {}, prefix {}", options.place(), options.prefix),
        None => format!("{}, database {}, prefix {}", options.place(), options.database, options.prefix),
    }
}

pub(crate) async fn open_redis(options: &RedisOptions) -> Result<redis::Inspector, Failure> {
    match redis::Inspector::open(options.clone()).await {
        Ok(inspector) => Ok(inspector),
        // The error says what each node has answered.
        Err(error) if options.cluster.is_some() => Err(Failure::Problem(format!("{error}; see `larder check`"))),
        Err(error) => Err(Failure::Problem(
            why_unreachable(options).await.unwrap_or_else(|| format!("{error}; see `larder check`")),
        )),
    }
}

/// Connects, and makes sure that larder's tables are there and can be looked at.
pub(crate) async fn open_postgres(options: &PostgresOptions) -> Result<postgres::Inspector, Failure> {
    let place = options.place();
    let reached = async {
        let inspector = postgres::Inspector::open(options.clone()).await?;
        Ok((inspector.facts().await?, inspector))
    };
    let (facts, inspector) = reached.await.map_err(|error: InspectError| match error {
        InspectError::Option(_) => Failure::from(error),
        error => Failure::Problem(format!("{error}; see `larder check`")),
    })?;
    if facts.standby {
        return Err(Failure::Problem(format!(
            "the database {place} is on a standby, where larder's tables cannot be read: give all hosts in the url, with \
             target_session_attrs=read-write"
        )));
    }
    match facts.tables {
        None => Err(InspectError::NotSetUp { place }.into()),
        Some(TABLES) if facts.uses_schema => Ok(inspector),
        Some(TABLES) => Err(Failure::Problem(format!(
            "the database {place}: the user {} may not use the schema larder; {}",
            facts.user,
            facts.grant_use()
        ))),
        Some(there) => Err(Failure::Problem(format!(
            "the database {place} has larder's tables of version {there}, and this larder knows version {TABLES}: use a larder of \
             the services' version"
        ))),
    }
}

impl Inspector {
    pub(crate) async fn cache(&self, name: &str) -> Result<Cache<'_>, Failure> {
        Ok(match self {
            Self::Redis(inspector) => Cache::Redis(inspector.cache(name).await?),
            Self::Postgres(inspector) => Cache::Postgres(inspector.cache(name).await?),
        })
    }
}

impl<'a> Cache<'a> {
    /// The name, as services write it.
    pub(crate) fn name(&self) -> &str {
        either!(self, cache => cache.name())
    }

    pub(crate) async fn index(&self, name: &str) -> Result<Index<'a>, Failure> {
        Ok(match self {
            Self::Redis(cache) => Index::Redis(cache.index(name).await?),
            Self::Postgres(cache) => Index::Postgres(cache.index(name)),
        })
    }
}

impl Index<'_> {
    /// Whether something on the server shows that the index exists.
    pub(crate) fn is_proven(&self) -> bool {
        either!(self, index => index.is_proven())
    }

    /// Whether there is certainly no such index.
    pub(crate) fn is_absent(&self) -> bool {
        match self {
            Self::Redis(index) => index.is_absent(),
            Self::Postgres(index) => !index.is_proven(),
        }
    }

    pub(crate) fn is_primary(&self) -> bool {
        either!(self, index => index.is_primary())
    }

    /// The indexes that there are.
    pub(crate) fn others(&self) -> &[String] {
        either!(self, index => index.others())
    }

    /// The index that may have been meant.
    pub(crate) fn nearest(&self) -> Option<&str> {
        either!(self, index => index.nearest())
    }

    pub(crate) async fn find(&self, key: &[u8]) -> Result<Found, Failure> {
        Ok(either!(self, index => index.find(key).await?))
    }

    /// How many of the keys lead to an object.
    pub(crate) async fn leading(&self, keys: &[Vec<u8>]) -> Result<u64, Failure> {
        Ok(either!(self, index => index.leading(keys).await?))
    }

    pub(crate) async fn invalidate(&self, keys: &[Vec<u8>], below: Option<u64>) -> Result<(), Failure> {
        either!(self, index => index.invalidate(keys, below).await?);
        Ok(())
    }

    pub(crate) async fn delete(&self, keys: &[Vec<u8>]) -> Result<(), Failure> {
        either!(self, index => index.delete(keys).await?);
        Ok(())
    }
}
