//! How this node follows the log of a cache: `lua/follow.lua` has the protocol on the server's side.

use crate::connector::redis::scripts;
use crate::connector::redis::single::{Store, Tier};
use crate::connector::redis::wire::replies::{bytes, unexpected};
use crate::connector::remote::{LOST, Trouble};
use crate::contract::{Following, Ticket};
use redis::Cmd;

/// How many followers a cache may have whose acknowledgements are waited for.
const MOST: u32 = 1_024;

/// How far a follower has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The epoch that it follows; 0: none.
    pub(crate) epoch: u64,
    /// It has applied all marks of the epoch up to this sequence.
    pub(crate) sequence: u64,
    /// Its place in the table, if it has one.
    place: Option<u32>,
    /// Another one for each follow that is sent, also for one that is sent again because nothing was answered. So an entry that is byte for byte what it was is one of
    /// a follower that has not followed since.
    counter: u64,
}

impl Known {
    /// Returns the marks of a message (`write_marks.lua`) that are not known yet, and counts them as known: the caller must apply them at once. `None`: the message
    /// does not go on from what is known, so the caller must ask.
    pub(crate) fn told(&mut self, message: &[u8]) -> Option<Vec<u64>> {
        let number = |at: usize| message.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let (epoch, before) = (number(0)?, number(8)?);
        let (marks, rest) = message.get(16..)?.as_chunks::<8>();
        if epoch != self.epoch || before > self.sequence || marks.is_empty() || !rest.is_empty() {
            return None;
        }
        let known = usize::try_from(self.sequence - before).ok()?;
        let marks: Vec<u64> = marks.iter().skip(known).map(|mark| u64::from_be_bytes(*mark)).collect();
        self.sequence += marks.len() as u64;
        Some(marks)
    }

    /// What is said with the next follow.
    pub(crate) fn said_next(&mut self) -> Self {
        self.counter += 1;
        *self
    }
}

/// What a follow has brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The marks of what was touched since the last follow.
    Marks(Vec<u64>),
    /// Everything may have been touched.
    Everything,
}

impl Store {
    /// Says what this node knows ([`Known::said_next`]), and asks for what it does not. Returns what it knows once it has applied the news.
    pub(crate) async fn follow(&self, tier: &Tier, known: Known) -> Result<(Known, News), Trouble> {
        let connection = self.trusted().ok_or(Trouble::Unavailable)?;
        let clock = self.local.layout.clock();
        let arguments = |call: &mut Cmd| {
            call.arg(1).arg(&clock).arg(&tier.follower[..]).arg(known.place.map_or(-1, i64::from));
            for number in [known.epoch, known.sequence, known.counter] {
                call.arg(&number.to_be_bytes()[..]);
            }
            call.arg(MOST);
        };
        let asked = self.link.beat(|on| async move { on.run(&scripts::FOLLOW, &arguments).await }).await;
        let reply = bytes(asked?).ok_or_else(|| unexpected("follow.lua"))?;
        // Another server may have answered than the one whose history was compared.
        if self.trusted() != Some(connection) {
            return Err(Trouble::Unavailable);
        }
        let answer = answer(&reply, known).ok_or_else(|| unexpected("follow.lua"))?;
        match answer {
            Answer::News(known, news) => {
                self.saw(Ticket { epoch: known.epoch, sequence: known.sequence });
                Ok((known, news))
            }
            Answer::Clearing => Err(Trouble::Unavailable),
            Answer::Lost(why) => {
                self.lost(why);
                Err(Trouble::Unavailable)
            }
            Answer::Full(epoch) => {
                // Those who were killed leave their entries behind, and where nothing changes nobody waits for them.
                if let Some(following) = Following::of(epoch) {
                    self.remove_the_dead(following).await;
                }
                Err(Trouble::fault(format!("the cache has {MOST} followers already")))
            }
        }
    }

    /// Gives the place in the table up.
    pub(crate) async fn leave(&self, tier: &Tier, known: Known) {
        let Some(place) = known.place else { return };
        let clock = self.local.layout.clock();
        let arguments = |call: &mut Cmd| {
            call.arg(1).arg(&clock).arg(place).arg(&tier.follower[..]);
        };
        // If that fails, the first change waits for a validity, and removes the entry.
        let _ = self.link.beat(|on| async move { on.run(&scripts::LEAVE, &arguments).await }).await;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    News(Known, News),
    Clearing,
    Lost(&'static str),
    /// Under this epoch.
    Full(u64),
}

fn answer(reply: &[u8], known: Known) -> Option<Answer> {
    let number = |at: usize| reply.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    let place = reply.get(17..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))?;
    let now = Known { epoch: number(1)?, sequence: number(9)?, place: Some(place), counter: known.counter };
    Some(match reply.first()? {
        1 => {
            let (marks, rest) = reply.get(21..)?.as_chunks::<8>();
            let whole = rest.is_empty() && marks.len() as u64 == now.sequence.checked_sub(known.sequence)?;
            whole
                .then(|| Answer::News(now, News::Marks(marks.iter().map(|mark| u64::from_be_bytes(*mark)).collect())))?
        }
        2 => Answer::News(now, News::Everything),
        3 => Answer::Clearing,
        4 => Answer::Lost(LOST),
        5 => Answer::Lost("another node has made a clock that says that no node keeps the cache in its own memory"),
        6 => Answer::Full(now.epoch),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known { epoch: 7, sequence: 40, place: None, counter: 3 };

    fn reply(kind: u8, sequence: u64, marks: &[u64]) -> Vec<u8> {
        let mut reply = vec![kind];
        [7, sequence].iter().for_each(|number| reply.extend(number.to_be_bytes()));
        reply.extend(5_u32.to_be_bytes());
        marks.iter().for_each(|mark| reply.extend(mark.to_be_bytes()));
        reply
    }

    #[test]
    fn the_marks_since_then_are_read() {
        let now = Known { epoch: 7, sequence: 42, place: Some(5), counter: 3 };
        assert_eq!(answer(&reply(1, 42, &[8, 9]), KNOWN), Some(Answer::News(now, News::Marks(vec![8, 9]))));
        assert_eq!(answer(&reply(2, 42, &[]), KNOWN), Some(Answer::News(now, News::Everything)));
        assert_eq!(answer(&reply(3, 42, &[]), KNOWN), Some(Answer::Clearing));
        assert_eq!(answer(&reply(6, 42, &[]), KNOWN), Some(Answer::Full(7)));
    }

    fn message(epoch: u64, before: u64, marks: &[u64]) -> Vec<u8> {
        [epoch, before].iter().chain(marks).flat_map(|number| number.to_be_bytes()).collect()
    }

    #[test]
    fn a_message_that_goes_on_from_what_is_known_tells_its_marks_once() {
        let mut known = KNOWN;
        assert_eq!(known.told(&message(7, 40, &[8, 9])), Some(vec![8, 9]));
        assert_eq!(known.told(&message(7, 40, &[8, 9])), Some(vec![]));
        assert_eq!(known.told(&message(7, 41, &[9, 10])), Some(vec![10]));
        assert_eq!(known, Known { sequence: 43, ..KNOWN });
    }

    #[test]
    fn a_message_that_leaves_something_out_tells_nothing() {
        let mut known = KNOWN;
        for other in [message(7, 41, &[9]), message(8, 40, &[9]), message(7, 40, &[]), vec![], vec![0; 15]] {
            assert_eq!(known.told(&other), None);
        }
        let mut cut_off = message(7, 40, &[8, 9]);
        cut_off.pop();
        assert_eq!(known.told(&cut_off), None);
        assert_eq!(known, KNOWN);
    }

    /// Whoever removes a dead follower goes by that.
    #[test]
    fn a_follow_that_is_sent_again_says_something_else() {
        let mut known = KNOWN;
        assert_ne!(known.said_next(), known.said_next());
        assert_eq!(known.counter, 5);
    }

    #[test]
    fn a_reply_that_lacks_marks_is_none() {
        assert_eq!(answer(&reply(1, 42, &[8]), KNOWN), None);
        assert_eq!(answer(&reply(1, 42, &[8, 9])[..36], KNOWN), None);
        assert_eq!(answer(&reply(1, 39, &[]), KNOWN), None, "the sequence never goes back");
        assert_eq!(answer(&reply(7, 42, &[]), KNOWN), None);
        assert_eq!(answer(&[1, 2], KNOWN), None);
    }
}
