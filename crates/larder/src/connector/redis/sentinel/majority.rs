//! Which server is the master, if Sentinels do not all say the same. Plain values in, a decision out.
//!
//! # Why not simply ask one
//!
//! After a failover the Sentinels hear of it one after the other. A Sentinel that is cut off from the others goes on naming the old master,
//! for as long as it is cut off. Each failover has a higher *config epoch* than all before it, so the answer of the highest epoch is the
//! newest. But one Sentinel alone may be wrong about it: a failover that the others have not heard of may have been half of one.

use crate::connector::redis::options::Address;
use std::time::Duration;

/// What one Sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) address: Address,
    /// Grows with each failover.
    pub(crate) epoch: u64,
    /// For how long this Sentinel has taken that server for the master. Zero: it does not say.
    pub(crate) since: Duration,
}

/// Why no server can be taken for the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undecided {
    /// A majority contradicts each answer.
    Disagreement,
    /// What was said is older than what this node has heard before.
    Behind,
    /// Fewer than a majority of all Sentinels confirm it, and a majority is asked for.
    TooFew,
}

/// The answer of the highest epoch that a majority of those who answered does not contradict. Its `since` is the shortest time that any
/// Sentinel gives for this server.
///
/// `all` is the number of Sentinels that were asked, and `heard` the highest epoch that this node has heard of. A lower epoch counts only
/// if a majority of *all* say so: then the Sentinels were set up anew, and count from 0 again. `strict` asks for that majority always.
/// `None`: nobody has answered.
pub(super) fn decide(said: &[Said], all: usize, heard: u64, strict: bool) -> Option<Result<Said, Undecided>> {
    let mut candidates: Vec<&Said> = said.iter().collect();
    candidates.sort_by_key(|said| std::cmp::Reverse(said.epoch));
    candidates.first()?;
    let agreeing = |candidate: &Said| said.iter().filter(|other| other.address == candidate.address).count();
    let newest = candidates.into_iter().find(|candidate| 2 * agreeing(candidate) >= said.len());
    let Some(newest) = newest else { return Some(Err(Undecided::Disagreement)) };
    let is_majority = 2 * agreeing(newest) > all;
    Some(if newest.epoch < heard && !is_majority {
        Err(Undecided::Behind)
    } else if strict && !is_majority {
        Err(Undecided::TooFew)
    } else {
        let since = said.iter().filter(|other| other.address == newest.address).map(|other| other.since).min();
        Ok(Said { since: since.unwrap_or_default(), ..newest.clone() })
    })
}

/// Whether no further answer can change what was decided: a majority of all have said the same.
pub(super) fn is_final(said: &[Said], all: usize) -> bool {
    said.iter().any(|one| {
        let same = |other: &&Said| (&other.address, other.epoch) == (&one.address, one.epoch);
        2 * said.iter().filter(same).count() > all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(server: u16, epoch: u64) -> Said {
        Said { address: Address::Tcp { host: "h".into(), port: server }, epoch, since: Duration::from_secs(9) }
    }

    fn decided(answers: &[(u16, u64)], all: usize, heard: u64, strict: bool) -> Result<(u16, u64), Option<Undecided>> {
        let answers: Vec<Said> = answers.iter().map(|(server, epoch)| said(*server, *epoch)).collect();
        match decide(&answers, all, heard, strict) {
            None => Err(None),
            Some(Err(undecided)) => Err(Some(undecided)),
            Some(Ok(Said { address: Address::Tcp { port, .. }, epoch, .. })) => Ok((port, epoch)),
            Some(Ok(_)) => Err(None),
        }
    }

    #[test]
    fn the_highest_epoch_that_no_majority_contradicts_is_taken() {
        let of_three = |answers: &[(u16, u64)]| decided(answers, 3, 0, false);
        assert_eq!(of_three(&[(1, 1), (1, 1), (1, 1)]), Ok((1, 1)));
        assert_eq!(of_three(&[(2, 2), (1, 1), (1, 1)]), Ok((1, 1)), "the first to hear of a failover is alone");
        assert_eq!(of_three(&[(2, 2), (2, 2), (1, 1)]), Ok((2, 2)), "one that is cut off");
        assert_eq!(of_three(&[(1, 1), (2, 2)]), Ok((2, 2)), "of two, neither is a majority");
        assert_eq!(
            of_three(&[(1, 3), (1, 1), (1, 1)]),
            Ok((1, 3)),
            "failed over and back: nobody contradicts the address"
        );
        assert_eq!(of_three(&[(1, 1)]), Ok((1, 1)), "the others do not answer");
        assert_eq!(of_three(&[]), Err(None));
        assert_eq!(of_three(&[(1, 1), (2, 2), (3, 3)]), Err(Some(Undecided::Disagreement)));
    }

    #[test]
    fn sentinels_that_are_behind_what_was_heard_count_only_as_a_majority_of_all() {
        assert_eq!(decided(&[(1, 1)], 3, 2, false), Err(Some(Undecided::Behind)));
        assert_eq!(decided(&[(1, 0), (1, 0)], 3, 2, false), Ok((1, 0)), "set up anew");
        assert_eq!(decided(&[(1, 2)], 3, 2, false), Ok((1, 2)));
    }

    #[test]
    fn strictly_a_majority_of_all_must_confirm() {
        assert_eq!(decided(&[(1, 1)], 3, 0, true), Err(Some(Undecided::TooFew)));
        assert_eq!(decided(&[(1, 1), (2, 2)], 3, 0, true), Err(Some(Undecided::TooFew)));
        assert_eq!(decided(&[(1, 1), (1, 1)], 3, 0, true), Ok((1, 1)));
        assert_eq!(decided(&[(1, 1)], 1, 0, true), Ok((1, 1)));
    }

    #[test]
    fn the_last_to_hear_of_a_promotion_says_since_when_all_know() {
        let mut answers = [said(2, 2), said(2, 2), said(1, 1)];
        answers[1].since = Duration::from_secs(1);
        answers[2].since = Duration::ZERO;
        let decided = decide(&answers, 3, 0, false).unwrap().unwrap();
        assert_eq!(decided.since, Duration::from_secs(1), "of those who name it");
    }

    #[test]
    fn nobody_is_waited_for_once_a_majority_says_the_same() {
        assert!(is_final(&[said(1, 1), said(1, 1)], 3));
        assert!(!is_final(&[said(1, 1), said(2, 2)], 3));
        assert!(!is_final(&[said(1, 1), said(1, 2)], 3));
        assert!(!is_final(&[], 0) && is_final(&[said(1, 1)], 1));
    }
}
