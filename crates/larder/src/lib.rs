//! larder is an object cache for services that look up the same few objects on every request, each by several keys, and must
//! never serve one that has changed.
pub mod breaker;
mod cache;
mod caches;
pub mod clock;
mod codec;

pub mod config;
pub mod connector;
mod entry;
mod journal;
mod key;
mod load;
pub mod telemetry;

pub use cache::{Cache, Lookup, UpdateError};
pub use caches::{Caches, OpenError};
pub use codec::{Codec, DecodeError};
pub use config::Config;
pub use connector::{Connector, Delivery, Error, Miss, Schema, Stored, Ticket};
#[doc(hidden)]
pub use entry::derived as __derive;
pub use entry::{Entry, Index, Keys};
pub use key::{Key, KeyBytes, KeyError, MAX_KEY_LEN};
pub use load::LoadError;
