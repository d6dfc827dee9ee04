//! [`Following`]: how nodes keep a cache in their own memory, as the epoch of its clock says it.

use super::consistency::{Consistency, VALIDITY};
use crate::option_error::OptionError;
use std::fmt;
use std::time::Duration;

/// How nodes keep a cache in their own memory: the same for all of them.
///
/// What it says stands in the epoch of the cache's clock. So every answer of the server tells each node what a change waits for, also a node that keeps
/// nothing in its own memory, and nodes need not be configured at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Following {
    pub(crate) consistency: Consistency,
    /// How long memory may be read after the node has last followed, in units of [`UNIT`].
    validity: u16,
}

/// The unit of a validity.
const UNIT: Duration = Duration::from_millis(25);

/// The longest validity.
const LONGEST: Duration = Duration::from_secs(10);

/// An epoch has this many bits, because scripts compute in doubles.
const EPOCH_BITS: u32 = 52;

/// Set in the epoch of a cache that nodes follow. The two bits below say how, the nine bits below those how long a validity is.
const FOLLOWED: u64 = 1 << (EPOCH_BITS - 1);
const CONSISTENCY: u32 = EPOCH_BITS - 3;
const VALIDITY_BITS: u32 = 9;
const AT_RANDOM: u32 = CONSISTENCY - VALIDITY_BITS;

impl Following {
    /// A validity is rounded up to a multiple of 25 ms.
    ///
    /// # Errors
    ///
    /// The validity is too short or too long.
    pub(crate) fn new(consistency: Consistency, validity: Duration) -> Result<Self, OptionError> {
        if validity < UNIT || validity > LONGEST {
            return Err(OptionError::duration("validity", validity, VALIDITY));
        }
        let validity = u16::try_from(validity.as_nanos().div_ceil(UNIT.as_nanos())).unwrap_or(u16::MAX);
        Ok(Self { consistency, validity })
    }

    /// Orders two ways to follow: of the greater one, a change that does not read the table of followers waits longer.
    #[cfg(feature = "redis")]
    pub(crate) fn waited_for(self) -> (bool, Duration) {
        (self.consistency != Consistency::Bounded, self.validity())
    }

    /// What the epoch of a clock says. `None`: no node follows the cache.
    pub(crate) fn of(epoch: u64) -> Option<Self> {
        if epoch & FOLLOWED == 0 || epoch >> EPOCH_BITS != 0 {
            return None;
        }
        let consistency = Consistency::ALL.get((epoch >> CONSISTENCY & 3) as usize).copied().unwrap_or_default();
        Some(Self { consistency, validity: (epoch >> AT_RANDOM & ((1 << VALIDITY_BITS) - 1)) as u16 })
    }

    /// A new epoch for a cache that is followed so, or by nobody.
    pub(crate) fn new_epoch(following: Option<Self>) -> u64 {
        match following {
            None => fastrand::u64(1..FOLLOWED),
            Some(Self { consistency, validity }) => {
                let consistency = match consistency {
                    Consistency::Strict => 0,
                    Consistency::Bounded => 1,
                    Consistency::WaitOnly => 2,
                };
                FOLLOWED
                    | consistency << CONSISTENCY
                    | u64::from(validity) << AT_RANDOM
                    | fastrand::u64(..1 << AT_RANDOM)
            }
        }
    }

    /// How long somebody who does not read the table of followers has to wait after a change under this epoch.
    pub(crate) fn wait_after(epoch: u64) -> Duration {
        match Self::of(epoch) {
            Some(following) if following.consistency != Consistency::Bounded => following.until_over(),
            _ => Duration::ZERO,
        }
    }

    /// How long memory may be read after the node has last followed.
    pub(crate) fn validity(self) -> Duration {
        UNIT * u32::from(self.validity)
    }

    /// How long to wait until a validity that had begun is over on every node, by another clock than theirs. Rates of clocks differ by less than a
    /// thousandth.
    pub(crate) fn until_over(self) -> Duration {
        let validity = self.validity();
        validity + validity / 1_000 + Duration::from_millis(2)
    }
}

impl fmt::Display for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, validity {} ms", self.consistency, self.validity().as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_says_how_the_cache_is_followed() {
        for consistency in Consistency::ALL {
            for (validity, known) in [(25, 25), (26, 50), (1_000, 1_000), (10_000, 10_000)] {
                let following = Following::new(consistency, Duration::from_millis(validity)).unwrap();
                assert_eq!(following.validity(), Duration::from_millis(known));
                let epoch = Following::new_epoch(Some(following));
                assert!(epoch < 1 << EPOCH_BITS);
                assert_eq!(Following::of(epoch), Some(following));
                assert_ne!(epoch, Following::new_epoch(Some(following)), "each epoch is another one");
            }
        }
        for _ in 0..100 {
            assert_eq!(Following::of(Following::new_epoch(None)), None);
        }
        assert_eq!(Following::of(0), None, "no clock");
    }

    #[test]
    fn a_validity_that_no_epoch_can_hold_is_refused() {
        for validity in [0, 24, 10_001] {
            let error = Following::new(Consistency::Strict, Duration::from_millis(validity)).unwrap_err();
            assert_eq!(error.option(), "validity");
        }
    }
}
