//! The entry type of the demo: an instance of an identity platform. Every request needs it, and finds it by its id or by the request's host
//! name.

use larder::{Entry, Index};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One tenant of the platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Entry)]
#[entry(cache = "instance")]
pub(crate) struct Instance {
    /// The primary key.
    #[key(primary)]
    pub(crate) id: String,
    /// The host names of the instance. A host belongs to one instance at a time.
    #[key(index = "host")]
    pub(crate) hosts: Vec<String>,
    /// The name for people.
    pub(crate) name: String,
    /// The features that are switched on.
    pub(crate) features: Vec<String>,
    /// How its users log in.
    pub(crate) settings: Settings,
    /// The version: the number of the change that made this state. Changes are numbered over all instances.
    #[version]
    pub(crate) sequence: u64,
}

/// How the users of an instance log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Whether a second factor is asked for.
    pub(crate) second_factor: bool,
    /// How long a session lasts, in minutes.
    pub(crate) session_minutes: u32,
}

/// A key of an [`Instance`], of either index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InstanceKey {
    pub(crate) index: Index<Instance, String>,
    pub(crate) text: String,
}

impl InstanceKey {
    pub(crate) fn id(id: impl Into<String>) -> Self {
        Self { index: Instance::ID, text: id.into() }
    }

    pub(crate) fn host(host: impl Into<String>) -> Self {
        Self { index: Instance::HOST, text: host.into() }
    }

    /// Every key of an instance.
    pub(crate) fn all_of(instance: &Instance) -> impl Iterator<Item = Self> {
        std::iter::once(Self::id(&instance.id)).chain(instance.hosts.iter().map(Self::host))
    }

    /// Whether this is a key of the primary index.
    pub(crate) fn is_id(&self) -> bool {
        self.index == Instance::ID
    }

    /// Whether `instance` lists this key.
    pub(crate) fn is_listed_by(&self, instance: &Instance) -> bool {
        if self.is_id() { instance.id == self.text } else { instance.hosts.contains(&self.text) }
    }
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.index.name(), self.text)
    }
}
