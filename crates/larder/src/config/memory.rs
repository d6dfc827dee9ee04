//! The settings of a memory connector: how much it may hold.

use super::connectors::KIND;
use super::error::Problems;
use super::setting::{Place, Setting, bytes, duration, number, plain, put, read, time, written_bytes};
use super::tree::Node;
use crate::connector::memory::MemoryOptions;
use crate::connector::memory::options::MAX_OBJECTS;

pub(super) const SETTINGS: &[Setting<MemoryOptions>] = &[
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

pub(super) fn read_options(section: &Node, problems: &mut Problems) -> MemoryOptions {
    let mut memory = MemoryOptions::new();
    let given = read(section, SETTINGS, &[KIND], &mut memory, problems);
    let place = Place { section, given: &given, inherited: None };
    memory.examine(&mut |error| place.report(&error, problems));
    memory
}
