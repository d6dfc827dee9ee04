//! Callers who go away: after so many polls, which meets every await point there is, or after a while, which meets whatever is slow.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// How patient a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Endless,
    /// Goes away when there is still no answer after being polled so many times.
    Polls(u32),
    Time(Duration),
}

impl Patience {
    /// Most callers wait. `rarely`: one in so many does not.
    pub(super) fn random(rng: &mut fastrand::Rng, one_in: u32) -> Self {
        match rng.u32(..one_in) {
            0 if rng.bool() => Self::Polls(rng.u32(1..=3)),
            0 => Self::Time(Duration::from_millis(rng.u64(0..=4))),
            _ => Self::Endless,
        }
    }

    /// The answer, if the caller is still there to get it. The future has been polled at least once.
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
