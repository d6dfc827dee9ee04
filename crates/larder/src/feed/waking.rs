//! [`Waking`]: a node polls as soon as there is something to poll ([`Wake::Listen`](super::Wake)).
//!
//! Each node has a session of its own, on which it listens. One of the nodes is the *waker*: it looks for changes each 10 ms, and when it finds
//! some, it notifies everybody who listens. Each node that is notified polls. Writers notify nobody: a transaction that notifies commits alone, so all
//! writers would wait for each other.
//!
//! # What depends on it
//!
//! Nothing but time. A notification carries no change and opens no gate: what a node knows, and until when it may be read, is decided by
//! its polls. A lost notification, a waker that hangs, or two wakers at once make a change arrive later, or make nodes poll more often.
//!
//! # Who is the waker
//!
//! Whoever has the lease, a row in the database: it needs no session, and ends by itself when its holder does. Only a node that is notified itself
//! asks for it, and keeps it alive on the session on which it listens. So the requests also show that this session still works.

use crate::connector::postgres::Postgres;
use crate::connector::postgres::connection::{Parameters, Session, column, unexpected};
use crate::connector::postgres::listening::{Heard, Listener};
use crate::connector::postgres::queries::Query;
use crate::connector::remote::{Awaited, Trouble};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Row;

/// How long the lease lasts. A waker that has ended is followed by another one after at most this and [`ASK`].
const LEASE: Duration = Duration::from_millis(1_200);

/// How often the waker prolongs its lease.
const PROLONG: Duration = Duration::from_millis(400);

/// How often the other nodes ask for the lease.
const ASK: Duration = Duration::from_millis(500);

/// The pause before the waker looks for changes again: where it has found none, and where it has found some. The latter limits the notifications to 20 a second.
const LOOK: Duration = Duration::from_millis(10);
const AFTER_NOTIFYING: Duration = Duration::from_millis(50);

/// The pause before a new session: after one was lost; after one could not be opened; after one was not notified, as behind a pooler.
const AFTER_LOSS: Duration = Duration::from_millis(100);
const AFTER_FAILURE: Duration = Duration::from_secs(1);
const AFTER_SILENCE: Duration = Duration::from_secs(60);

/// How a notification of changes begins. The rest is the name of the node that sends it.
const CHANGED: &str = "changed ";

/// Rings for the task that polls.
#[derive(Default)]
pub(super) struct Bell {
    /// There may be something to poll.
    pub(super) poll: Notify,
    /// A poll has succeeded for the first time: larder's tables are there.
    pub(super) polled: Notify,
}

pub(super) struct Waking {
    postgres: Postgres,
    bell: Arc<Bell>,
    /// How many memories of this node are told of fences.
    tiers: Arc<AtomicUsize>,
    /// By this the lease knows its holder, and a node its own notifications.
    token: [u8; 16],
    /// What this node notifies the others with.
    text: String,
}

/// Why a node is not notified.
enum Why {
    /// It was, until now.
    Lost(Trouble),
    Failed(Trouble),
    /// Notifications do not arrive.
    Silence,
}

impl Waking {
    pub(super) fn new(postgres: Postgres, bell: Arc<Bell>, tiers: Arc<AtomicUsize>) -> Self {
        let name = fastrand::u128(..);
        Self { postgres, bell, tiers, token: name.to_be_bytes(), text: format!("{CHANGED}{name:032x}") }
    }

    /// Runs until it is aborted.
    pub(super) async fn run(self) {
        self.bell.polled.notified().await;
        // Whether somebody was told that this node is not notified.
        let mut told = false;
        loop {
            let (why, pause) = match self.listen(&mut told).await {
                Why::Lost(trouble) => {
                    tracing::debug!(server = %self.postgres.name(), error = %trouble, "the session that listens is lost");
                    sleep(AFTER_LOSS).await;
                    continue;
                }
                Why::Failed(trouble) => (trouble.to_string(), AFTER_FAILURE),
                Why::Silence => {
                    let why = "notifications do not arrive, as behind a pooler in transaction mode: give the feed a connector that goes \
                         to the server directly, or `wake: poll`";
                    (why.to_owned(), AFTER_SILENCE)
                }
            };
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(
                    server = %self.postgres.name(), why,
                    "the feed does not notify this node: changes arrive with the next poll"
                );
            }
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }

    /// Listens, and is the waker or asks for that, until the session is of no more use.
    async fn listen(&self, told: &mut bool) -> Why {
        let link = self.postgres.link();
        let mut listener = match Listener::open(&link.kind().options, &link.kind().certificates).await {
            Ok(listener) => listener,
            Err(trouble) => return Why::Failed(trouble),
        };
        let trial = format!("trial {:016x}", fastrand::u64(..));
        let send = link.beat(|on| {
            let trial = &trial;
            async move { on.rows(Query::Notify, &[trial]).await.map(drop) }
        });
        match listener.hears(&trial, send).await {
            Ok(true) => {}
            Ok(false) => return Why::Silence,
            Err(trouble) => return Why::Failed(trouble),
        }
        if std::mem::take(told) {
            tracing::info!(server = %self.postgres.name(), "the feed notifies this node of changes again");
        }
        // Of what has changed before, nobody has notified this session.
        self.bell.poll.notify_one();
        let (session, heard) = listener.parts();
        tokio::select! {
            () = self.hear(heard) => Why::Lost(Trouble::broken("the session has ended")),
            trouble = self.serve(session) => Why::Lost(trouble),
        }
    }

    /// Has this node polled whenever another one has found changes, until the session ends.
    async fn hear(&self, heard: &mut Heard) {
        while let Some(text) = heard.next().await {
            if text.starts_with(CHANGED) && text != self.text {
                self.bell.poll.notify_one();
            }
        }
    }

    async fn serve(&self, session: &Session) -> Trouble {
        match self.wake(session).await {
            Err(trouble) => trouble,
            Ok(never) => match never {},
        }
    }

    /// Asks for the lease, and notifies the other nodes of changes while it has the lease.
    async fn wake(&self, session: &Session) -> Result<Infallible, Trouble> {
        let life = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
        // Up to where changes were told. A new waker does not know what the one before has told, and notifies in any case.
        let mut told: Option<String> = None;
        loop {
            let asked = Instant::now();
            if self.ask(session, Query::Wake, &[&&self.token[..], &life]).await?.is_empty() {
                told = None;
                sleep(ASK).await;
                continue;
            }
            while asked.elapsed() < PROLONG {
                // The other nodes keep the same caches in their own memory.
                let stir = if self.tiers.load(Ordering::SeqCst) > 0 { Query::StirFences } else { Query::Stir };
                let rows = self.ask(session, stir, &[&told, &self.text]).await?;
                let row = rows.first().ok_or_else(unexpected)?;
                told = Some(column(row, 0)?);
                if column(row, 1)? {
                    self.bell.poll.notify_one();
                    sleep(AFTER_NOTIFYING).await;
                } else {
                    sleep(LOOK).await;
                }
            }
        }
    }

    /// Sends one statement on the session that listens. No breaker counts it: what the caches ask goes over other sessions. A server that is slow for a moment is no
    /// reason to open another session, so the time-out is the long one.
    async fn ask(&self, session: &Session, query: Query, parameters: Parameters<'_>) -> Result<Vec<Row>, Trouble> {
        let within = self.postgres.link().kind().options.connect_timeout;
        timeout(within, session.rows(query, parameters)).await.unwrap_or(Err(Trouble::TimedOut(Awaited::Connection)))
    }
}
