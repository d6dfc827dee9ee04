//! How larder talks to a server: connections, commands, replies, and what errors mean. What is sent is in `single/`.

pub(crate) mod caller;
mod commands;
pub(crate) mod confirming;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod parcel;
pub(crate) mod replies;
pub(crate) mod rights;
