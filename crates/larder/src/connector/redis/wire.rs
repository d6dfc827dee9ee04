//! How larder talks to a Redis server: connections, commands, replies, and what errors mean. Which commands an operation of a cache
//! sends is decided in `single/`.

#[cfg(feature = "torture")]
mod asking;
pub(crate) mod bell;
pub(crate) mod caller;
mod commands;
pub(crate) mod confirming;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod dial;
mod login;
pub(crate) mod parcel;
pub(crate) mod replies;
pub(crate) mod rights;
