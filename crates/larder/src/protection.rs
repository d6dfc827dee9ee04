//! What keeps the promises, so that it can be switched off: a test that cannot fail proves nothing, and this is how
//! `larder torture --without` shows that it would notice.
//!
//! Without the cargo feature `torture` nothing can be switched off, what asks for a switch asks a constant, and this module is not public.
//! With it every check of a switch costs one load of a static. Never for a service.
//!
//! In a Lua script a protection is the lines that end in `-- protection: ` and its name; the script must be valid without
//! them.

#[cfg(feature = "remote")]
use std::borrow::Cow;

/// One of the things that larder's promises rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// A fill, or an update, is refused where one of its object's keys was touched since its ticket.
    Fence,
    /// The ticket is taken before the load, or the write, begins.
    Ticket,
    /// What could not be delivered is kept, and replayed before anything is read.
    Journal,
    /// A lower version neither replaces a higher one nor passes a floor.
    Version,
    /// A truncate, and the loss of the clock, make a new epoch.
    Epoch,
    /// A server that was restarted, restored or went back in time is not trusted.
    History,
    /// A reader believes an object only if it lists the key that was asked for.
    Validate,
}

impl Protection {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Fence, Self::Ticket, Self::Journal, Self::Version, Self::Epoch, Self::History, Self::Validate];

    /// Its name, as the scripts and the command line have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fence => "fence",
            Self::Ticket => "ticket",
            Self::Journal => "journal",
            Self::Version => "version",
            Self::Epoch => "epoch",
            Self::History => "history",
            Self::Validate => "validate",
        }
    }
}

#[cfg(feature = "torture")]
mod switches {
    use super::Protection;
    use std::sync::atomic::{AtomicU8, Ordering};

    /// One bit for each that is off.
    static OFF: AtomicU8 = AtomicU8::new(0);

    impl Protection {
        /// Switches it off in this process, for good. To be called before the first cache is opened: scripts are made once.
        pub fn switch_off(self) {
            OFF.fetch_or(1 << self as u8, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn holds(protection: Protection) -> bool {
        OFF.load(Ordering::Relaxed) & (1 << protection as u8) == 0
    }
}

#[cfg(feature = "torture")]
pub(crate) use switches::holds;

/// Whether it is on.
#[cfg(not(feature = "torture"))]
#[inline]
pub(crate) const fn holds(_: Protection) -> bool {
    true
}

/// The script without the lines of what is switched off.
#[cfg(feature = "remote")]
pub(crate) fn in_script(code: &'static str) -> Cow<'static, str> {
    let off = |line: &str| {
        let name = line.trim_end().rsplit_once("-- protection: ").map(|(_, name)| name);
        name.is_some_and(|name| {
            Protection::ALL.iter().any(|protection| protection.name() == name && !holds(*protection))
        })
    };
    if !cfg!(feature = "torture") || !code.lines().any(off) {
        return Cow::Borrowed(code);
    }
    Cow::Owned(code.split_inclusive('\n').filter(|line| !off(line)).collect())
}
