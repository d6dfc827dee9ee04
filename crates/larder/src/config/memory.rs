//! `connectors.memory`: how much the memory connector may hold.

use super::error::Problems;
use super::setting::{Place, Setting, bytes, duration, number, plain, put, read, time, written_bytes};
use super::tree::Node;
use crate::connector::memory::{MAX_OBJECTS, MemoryOptions};
use std::time::Duration;

/// The settings of the memory connector. They hold for each cache on it by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Objects that one cache holds at most. Default 100,000.
    pub max_objects: u64,
    /// What they may weigh together, in bytes; zero: no limit. Default 0.
    pub max_bytes: u64,
    /// How often expired objects are removed from memory; zero: only to make room. Default 1 min.
    pub prune_interval: Duration,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { max_objects: 100_000, max_bytes: 0, prune_interval: Duration::from_secs(60) }
    }
}

pub(super) const SETTINGS: &[Setting<MemoryConfig>] = &[
    Setting {
        name: "max_objects",
        give: MAX_OBJECTS,
        read: |memory, node| put(&mut memory.max_objects, number(node)),
        write: |memory| plain(memory.max_objects),
    },
    Setting {
        name: "max_bytes",
        give: "a size such as 64 MiB, or 0 for no limit",
        read: |memory, node| put(&mut memory.max_bytes, bytes(node)),
        write: |memory| written_bytes(memory.max_bytes),
    },
    Setting {
        name: "prune_interval",
        give: "a duration such as 1m, or 0 for never",
        read: |memory, node| put(&mut memory.prune_interval, duration(node)),
        write: |memory| time(memory.prune_interval),
    },
];

impl MemoryConfig {
    /// What one cache on the connector is opened with.
    pub(crate) fn options(&self) -> MemoryOptions {
        MemoryOptions { max_objects: self.max_objects, max_bytes: self.max_bytes, ..MemoryOptions::default() }
    }

    pub(super) fn read(section: &Node, problems: &mut Problems) -> Self {
        let mut memory = Self::default();
        let given = read(section, SETTINGS, &[], &mut memory, problems);
        if let Err(error) = memory.options().validate() {
            Place { section, given: &given, inherited: None }.report(&error, problems);
        }
        memory
    }
}
