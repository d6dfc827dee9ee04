//! [`Bell`]: what a server says by itself on a channel, until somebody takes it.

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How many messages wait to be taken.
const MOST: usize = 64;

/// What a server says by itself.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Notify,
    heard: Mutex<Heard>,
}

/// What was heard since somebody took it last.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// In the order in which the server sent them.
    pub(crate) messages: Vec<Vec<u8>>,
    /// Some were missed or dropped. Then there are no messages here, and whoever takes this must ask the server.
    pub(crate) incomplete: bool,
}

impl Bell {
    /// Something may have been said that nobody has heard.
    pub(crate) fn ring(&self) {
        let mut heard = self.heard.lock();
        *heard = Heard { messages: Vec::new(), incomplete: true };
        self.rung.notify_one();
    }

    pub(crate) fn say(&self, message: Vec<u8>) {
        let mut heard = self.heard.lock();
        if heard.incomplete || heard.messages.len() == MOST {
            *heard = Heard { messages: Vec::new(), incomplete: true };
        } else {
            heard.messages.push(message);
        }
        self.rung.notify_one();
    }

    /// Waits until something is said, and takes it. It may also take nothing.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, nothing was taken.
    pub(crate) async fn heard(&self) -> Heard {
        self.rung.notified().await;
        std::mem::take(&mut *self.heard.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_taken_in_their_order() {
        let bell = Bell::default();
        bell.say(vec![1]);
        bell.say(vec![2]);
        let heard = bell.heard().await;
        assert_eq!((heard.messages, heard.incomplete), (vec![vec![1], vec![2]], false));
    }

    #[tokio::test]
    async fn where_something_may_be_missing_no_message_is_left() {
        let bell = Bell::default();
        bell.say(vec![1]);
        bell.ring();
        bell.say(vec![2]);
        let heard = bell.heard().await;
        assert!(heard.incomplete && heard.messages.is_empty());

        (0..=MOST).for_each(|_| bell.say(vec![3]));
        let heard = bell.heard().await;
        assert!(heard.incomplete && heard.messages.is_empty());
    }
}
