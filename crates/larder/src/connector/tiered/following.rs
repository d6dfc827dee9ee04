//! [`Follower`]: the task that keeps this node's memory of one cache right.
//!
//! It asks the server what was touched, forgets that, and only then lets the memory be read: for a validity since it *sent* the question. It asks
//! three times in a validity, and when a change of this node wants to know that it was forgotten here. What it has forgotten it acknowledges with the next
//! question, which it sends at once if changes wait for that.
//!
//! The server also says by itself what was touched (the *bell*), on a connection of its own. If that goes on from what the follower knows, it is forgotten like
//! what an answer says, but it makes the memory valid for no longer. Otherwise the follower asks. A message that is lost only makes it notice later.

use crate::connector::redis::single::following::{Known, News};
use crate::connector::redis::single::{Store, Tier};
use crate::connector::redis::wire::bell::{Bell, Heard};
use crate::connector::redis::wire::connection::Connection;
use crate::connector::remote::Trouble;
use crate::contract::{Consistency, Following};
use crate::protection::{Protection, holds};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// The shortest pause between two questions, but for the first one that acknowledges. So a cache that changes all the time costs the server a bounded number of
/// them.
const SHORTEST: Duration = Duration::from_millis(1);

/// The pause after a question that has failed.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// The pause before the bell is connected again. Where that fails, each pause is twice as long as the one before, up to the longest.
const BELL: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Keeps this node's memory of one cache right.
pub(super) struct Follower {
    store: Arc<Store>,
    bell: Arc<Bell>,
    /// How far the memory has come. Only the task changes it.
    known: Mutex<Known>,
}

impl Follower {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, bell: Arc::default(), known: Mutex::default() }
    }

    fn tier(&self) -> Option<&Tier> {
        self.store.local.tier.get()
    }

    /// Follows until it is aborted.
    pub(super) async fn run(self: Arc<Self>) {
        let Some(tier) = self.tier() else { return };
        tokio::join!(self.follow(tier), self.listen());
    }

    async fn follow(&self, tier: &Tier) {
        let (mut failing, mut acknowledges, mut told) = (false, false, tier.following);
        loop {
            let sent = Instant::now();
            let next = match self.follow_once(tier).await {
                Ok(Round { touched: true, .. }) => {
                    // At once, unless this very question was an acknowledgement already, and has brought something new.
                    if std::mem::replace(&mut acknowledges, true) {
                        sleep_until(sent + SHORTEST).await;
                    }
                    continue;
                }
                Ok(Round { following, .. }) => {
                    acknowledges = false;
                    if std::mem::replace(&mut told, following) != following && following != tier.following {
                        tracing::warn!(
                            cache = %self.store.schema.cache,
                            configured = %tier.following, followed = %following,
                            "the cache is not followed as it is configured here, until a service that has this configuration truncates it"
                        );
                    }
                    if std::mem::take(&mut failing) {
                        tracing::info!(cache = %self.store.schema.cache, "this node's memory of the cache is read again");
                    }
                    sent + following.validity() / 3
                }
                Err(trouble) => {
                    if !matches!(trouble, Trouble::Unavailable | Trouble::Shed)
                        && !std::mem::replace(&mut failing, true)
                    {
                        tracing::warn!(
                            cache = %self.store.schema.cache, error = %trouble,
                            "the cache cannot be followed: this node's memory of it is not read until it can be"
                        );
                    }
                    sent + AFTER_FAILURE
                }
            };
            sleep_until((sent + SHORTEST).min(next)).await;
            let _ = timeout_at(next, self.wanted(tier)).await;
        }
    }

    /// Waits until a change of this node, or what the server says, wants a question to be asked.
    async fn wanted(&self, tier: &Tier) {
        loop {
            tokio::select! {
                () = tier.rounds.wake.notified() => return,
                heard = self.bell.heard() => if self.apply(tier, &heard) { return },
            }
        }
    }

    /// Forgets what the server has said was touched. Returns whether to ask: because that is not all, or because changes wait for an acknowledgement.
    fn apply(&self, tier: &Tier, heard: &Heard) -> bool {
        if heard.incomplete || !holds(Protection::AckOrder) {
            return true;
        }
        let mut known = self.known.lock();
        let mut touched = false;
        for message in &heard.messages {
            match known.told(message) {
                None => return true,
                Some(marks) if marks.is_empty() => {}
                Some(marks) => {
                    tier.near.forget(&marks);
                    touched = true;
                }
            }
        }
        touched && Following::of(known.epoch).is_some_and(|following| following.consistency == Consistency::Strict)
    }

    /// Asks once, and applies the answer.
    async fn follow_once(&self, tier: &Tier) -> Result<Round, Trouble> {
        let round = tier.rounds.begin();
        let clock = self.store.link.clock();
        let sent = clock.now();
        let known = self.known.lock().said_next();
        let answered = self.store.follow(tier, known).await;
        let (now, news) = match answered {
            Ok(answered) => answered,
            Err(trouble) => {
                tier.rounds.end(round, false);
                return Err(trouble);
            }
        };
        if !holds(Protection::AckOrder) {
            // Acknowledges what is not forgotten yet.
            let _ = self.store.follow(tier, now).await;
            sleep(AFTER_FAILURE).await;
        }
        let touched = match &news {
            News::Marks(marks) if marks.is_empty() => false,
            News::Marks(marks) => {
                tier.near.forget(marks);
                true
            }
            News::Everything => {
                tier.near.clear();
                true
            }
        };
        *self.known.lock() = now;
        let following = Following::of(now.epoch).unwrap_or(tier.following);
        tier.near.extend(sent + u64::try_from(following.validity().as_millis()).unwrap_or(0));
        tier.rounds.end(round, true);
        // Nobody waits for an acknowledgement where changes wait for nobody, or for the validity.
        Ok(Round { touched: touched && following.consistency == Consistency::Strict, following })
    }

    /// Keeps the bell connected.
    async fn listen(&self) {
        let (mut pause, mut tried) = (BELL, 0);
        loop {
            let generation = self.store.link.generation();
            // Another connection may lead to another server, which may allow it.
            if std::mem::replace(&mut tried, generation) != generation {
                pause = BELL;
            }
            if let Some(connection) = self.store.link.connection() {
                match self.listen_on(&connection, generation).await {
                    Ok(()) => pause = BELL,
                    Err(trouble) => {
                        if pause == BELL {
                            tracing::info!(
                                cache = %self.store.schema.cache, error = %trouble,
                                "this node hears of changes only when it asks for them, three times in a validity: nobody tells it, since it cannot subscribe"
                            );
                        }
                        pause = (pause * 2).min(LONGEST);
                    }
                }
            }
            let over = Instant::now() + pause;
            while Instant::now() < over && self.store.link.generation() == generation {
                sleep(BELL).await;
            }
        }
    }

    /// Connects the bell to the server of this connection, until either connection has ended.
    async fn listen_on(&self, connection: &Connection, generation: u64) -> Result<(), Trouble> {
        let channel = self.store.local.layout.clock();
        let route = &self.store.link.kind().route;
        let (_open, mut driver) = route.subscribe(connection, &channel, self.bell.clone()).await?;
        // Something may have been touched before.
        self.bell.ring();
        let another = async {
            while self.store.link.generation() == generation {
                sleep(BELL).await;
            }
        };
        tokio::select! {
            () = driver.ended() => {}
            () = another => {}
        }
        Ok(())
    }

    /// Gives the place among the followers up. Nothing may be read from the memory any more.
    pub(super) async fn leave(&self) {
        let known = *self.known.lock();
        if let Some(tier) = self.tier() {
            self.store.leave(tier, known).await;
        }
    }
}

/// A question that was answered.
struct Round {
    /// Whether something has been forgotten that is to be acknowledged.
    touched: bool,
    following: Following,
}
