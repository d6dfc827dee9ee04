//! [`Consistency`]: what a change of a cache waits for where nodes keep objects of it in their own memory.

use std::fmt;

/// What a change of a cache waits for where several nodes keep objects of the cache in their own memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Consistency {
    /// A change is *applied* when every node has acknowledged it, or when the memory of a node that has not may not be read any more. So no node serves
    /// anything older than an applied change, as without such memories.
    #[default]
    Strict,
    /// A change waits for nobody. The node that made it serves nothing older; another node may, for the validity at most.
    Bounded,
    /// A change always waits for the validity, and no node acknowledges anything. It promises what strict promises, and costs the server less, but a change
    /// takes long: choose a short validity.
    WaitOnly,
}

impl Consistency {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Strict, Self::Bounded, Self::WaitOnly];

    /// The name in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Bounded => "bounded",
            Self::WaitOnly => "wait-only",
        }
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What errors say to give.
pub(crate) const VALIDITY: &str = "a time from 25 ms to 10 s, such as 1 s";
