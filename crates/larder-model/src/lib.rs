//! A model of larder's protocol.

pub mod check;
pub mod cluster;
mod node;
mod properties;
pub mod protections;
pub mod scenes;
mod server;
pub mod source;
pub mod standalone;
