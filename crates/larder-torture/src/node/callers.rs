//! Callers that go away: after a number of polls, which hits every await point, or after some time, which hits slow steps.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// How long a caller waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Endless,
    /// The caller goes away if there is no answer after this many polls.
    Polls(u32),
    Time(Duration),
}

impl Patience {
    /// One caller in `one_in` goes away. All others wait.
    pub(super) fn random(rng: &mut fastrand::Rng, one_in: u32) -> Self {
        match rng.u32(..one_in) {
            0 if rng.bool() => Self::Polls(rng.u32(1..=3)),
            0 => Self::Time(Duration::from_millis(rng.u64(0..=4))),
            _ => Self::Endless,
        }
    }

    /// Waits for the answer. `None`: the caller went away. The call is polled at least once.
    pub(super) async fn wait<T>(self, call: impl Future<Output = T>) -> Option<T> {
        match self {
            Self::Endless => Some(call.await),
            Self::Time(time) => tokio::time::timeout(time, call).await.ok(),
            Self::Polls(most) => {
                let mut call = pin!(call);
                let mut polls = 0;
                poll_fn(|context| {
                    polls += 1;
                    match call.as_mut().poll(context) {
                        Poll::Ready(answer) => Poll::Ready(Some(answer)),
                        Poll::Pending if polls >= most => Poll::Ready(None),
                        Poll::Pending => Poll::Pending,
                    }
                })
                .await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn slow(steps: u32) -> u32 {
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        steps
    }

    #[tokio::test]
    async fn goes_away_after_so_many_polls() {
        assert_eq!(Patience::Polls(1).wait(slow(0)).await, Some(0));
        assert_eq!(Patience::Polls(1).wait(slow(1)).await, None);
        assert_eq!(Patience::Polls(3).wait(slow(2)).await, Some(2));
        assert_eq!(Patience::Polls(3).wait(slow(3)).await, None);
        assert_eq!(Patience::Endless.wait(slow(9)).await, Some(9));
    }
}
