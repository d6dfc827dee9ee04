//! The connectors: where objects are kept.
//!
//! | connector | keeps objects |
//! |---|---|
//! | [`noop`] | nowhere: a cache that is switched off |
//! | [`memory`] | in this process |
//! | `redis` (cargo feature) | on one Redis or Valkey server, or in a cluster |
//! | [`tiered`] | in this process, in front of redis or postgres |
//! | `postgres` (cargo feature) | in a PostgreSQL database |
//!
//! [`contract`](crate::contract) says what every connector does. A connector of your own implements
//! [`Connector`](crate::contract::Connector). If it has a server behind it, build it on `remote`.

pub(crate) mod credentials;
#[cfg(any(feature = "redis", feature = "postgres"))]
pub mod inspect;
pub mod memory;
#[cfg(any(feature = "redis", feature = "postgres"))]
pub(crate) mod near;
pub mod noop;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "remote")]
pub mod remote;
/// The connector for a PostgreSQL database. Without the cargo feature `postgres` only its options exist.
#[cfg(not(feature = "postgres"))]
pub mod postgres {
    pub(crate) mod options;

    pub use options::PostgresOptions;
}
/// The connector for one Redis or Valkey server. Without the cargo feature `redis` only its options exist.
#[cfg(not(feature = "redis"))]
pub mod redis {
    pub(crate) mod options;

    pub use options::{Address, RedisOptions, SentinelOptions, TlsOptions};
}
pub(crate) mod secret;
#[cfg(any(feature = "redis", feature = "postgres"))]
pub mod tiered;
/// The tiered connector. Without the cargo features `redis` and `postgres` only its options exist.
#[cfg(not(any(feature = "redis", feature = "postgres")))]
pub mod tiered {
    pub(crate) mod options;

    pub use crate::contract::Consistency;
    pub use options::TieredOptions;
}
#[cfg(any(feature = "redis", feature = "postgres"))]
pub(crate) mod tls;

pub use credentials::{Credentials, CredentialsProvider};
pub use secret::Secret;
#[cfg(any(feature = "redis", feature = "postgres"))]
pub use tls::CertificateError;
