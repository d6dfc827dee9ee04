//! larder is an object cache for services that look up the same few objects on every request, each object by several keys, and must never
//! serve an object that has changed.
//!
//! ```
//! use larder::{Cache, CacheOptions, Caches, Entry};
//! use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//!
//! #[derive(Clone, Serialize, Deserialize, Entry)]
//! #[entry(cache = "instance")]
//! struct Instance {
//!     #[key(primary)]
//!     id: String,
//!     #[key(index = "host")]
//!     hosts: Vec<String>,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hour = Duration::from_secs(3600);
//! let caches = Caches::builder().cache::<Instance>(CacheOptions::on("memory").max_age(hour)).open().await?;
//! let instances: Cache<Instance> = caches.open()?;
//! let acme = instances
//!     .get_or_load(Instance::HOST, "acme.example", |host| async {
//!         // Read the database here.
//!         Ok::<_, std::io::Error>(Some(Instance { id: "42".into(), hosts: vec![host] }))
//!     })
//!     .await?;
//! assert_eq!(acme.unwrap().id, "42");
//! instances.invalidate(Instance::ID, ["42"]).await?;
//! assert!(instances.get(Instance::HOST, "acme.example").await.is_none());
//! # Ok(()) }
//! ```
//!
//! | to find out | see |
//! |---|---|
//! | what can be cached, and by which keys | [`Entry`], [`Index`], [`Key`] |
//! | how to look up, load, store and forget | [`Cache`] |
//! | how to open caches, from code or from a file | [`Caches`], [`CachesBuilder`], [`config`] |
//! | where objects are kept | [`connector`] |
//! | how to write a connector of your own | [`contract`] |
//! | what is counted | [`telemetry`] |
//! | whether what is served is what the source has | [`audit`] |
//! | the circuit breaker, for other uses as well | [`breaker`] |
//!
//! The promises (C1 to C14), how they are kept and what they do not cover are in the repository's `ARCHITECTURE.md`.
//!
//! # Features
//!
//! | feature | what |
//! |---|---|
//! | `redis` (default) | the redis connector; without it and `postgres` there is no network code |
//! | `postgres` | the postgres connector |
//! | `yaml`, `toml` (default) | configuration files of either kind, and environment variables; without both there is no `config` |
//! | `zitadel` (default) | reads Zitadel's `Caches:` block as a configuration; turns `yaml` on |
//! | `remote` | `connector::remote`: what a connector with a server behind it needs, to build one of your own; `redis` and `postgres` turn it on |
//! | `tokio-postgres`, `sqlx-postgres` | `Cache::invalidate_in`: an invalidation that commits together with the change, for transactions of these client libraries |
//! | `uuid` | [`Key`] for `uuid::Uuid` |
//! | `torture` | switches that turn larder's protections off, so that `larder-torture` can prove that it would notice; never for a service |

pub mod breaker;
mod cache;
mod caches;
pub mod clock;
mod codec;
#[cfg(any(feature = "yaml", feature = "toml"))]
pub mod config;
pub mod connector;
pub mod contract;
mod duration;
mod entry;
mod failure;
#[cfg(feature = "postgres")]
pub mod feed;
/// Changes that travel with the database transaction that makes them. Without the cargo feature `postgres` only the options exist.
#[cfg(not(feature = "postgres"))]
pub mod feed {
    pub(crate) mod declaration;
    pub(crate) mod options;

    pub use declaration::{Source, Sources};
    pub use options::{FeedOptions, FollowOptions, Wake};
}
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod key;
mod nearest;
mod option_error;
#[cfg(feature = "torture")]
pub mod protection;
#[cfg(not(feature = "torture"))]
#[allow(dead_code, unreachable_pub)]
mod protection;
mod sync;
pub mod telemetry;
#[cfg(any(feature = "tokio-postgres", feature = "sqlx-postgres"))]
pub mod transaction;

pub use cache::audit;
pub use cache::{Cache, Get, LoadError, UpdateError};
pub use caches::{
    CacheOptions, Caches, CachesBuilder, ConnectorKind, ConnectorName, ConnectorOptions, DatabaseFeed, OpenError,
    Readiness, ReloadError, Shutdown, TierOptions,
};
pub use codec::{Codec, EncodeError};
#[cfg(any(feature = "yaml", feature = "toml"))]
pub use config::Config;
pub use contract::{Connector, Delivery, Error, LoadOptions, Lookup, Miss, Schema, Stored, Ticket};
#[doc(hidden)]
pub use entry::derived as __derive;
pub use entry::{AnyKey, Entry, Index, Keys};
pub use failure::{AsError, Failure, ways};
pub use key::{Key, KeyBytes, KeyError, KeyFor, MAX_KEY_LEN};
pub use option_error::OptionError;
#[cfg(any(feature = "tokio-postgres", feature = "sqlx-postgres"))]
pub use transaction::{Transaction, TransactionError};
