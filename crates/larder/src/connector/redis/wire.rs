//! How larder talks to a server: connections, scripts, replies, and what errors mean.

pub(crate) mod confirming;
pub(crate) mod connect;
pub(crate) mod link;
pub(crate) mod parcel;
pub(crate) mod rights;
pub(crate) mod trouble;
