//! [`Listener`]: a session of its own on which the server notifies this node that something has changed.
//!
//! Only LISTEN needs a session that stays. A pooler in transaction mode takes the LISTEN, and the notifications go to whichever client has
//! the session of the server at that moment, or to nobody. Nothing tells the client. So a listener is [tried out](Listener::hears) before
//! anybody relies on it.

use super::connecting;
use super::connection::Session;
use super::errors::trouble;
use super::options::PostgresOptions;
use super::tls::Certificates;
use crate::connector::remote::{Awaited, Trouble};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::Notification;

/// How many notifications wait to be read. What does not fit is dropped: one notification says as much as many.
const WAITING: usize = 64;

/// How long a notification of the trial may take. It takes a millisecond, unless the server has no processor to spare.
const TRIAL: Duration = Duration::from_secs(3);

/// A session that listens. It ends when this is dropped.
pub(crate) struct Listener {
    session: Session,
    heard: Heard,
    _driver: JoinSet<()>,
}

/// The notifications of a session.
pub(crate) struct Heard(mpsc::Receiver<Notification>);

impl Heard {
    /// The text of the next notification. `None`: the session has ended.
    pub(crate) async fn next(&mut self) -> Option<String> {
        self.0.recv().await.map(|notification| notification.payload().to_owned())
    }
}

impl Listener {
    /// Opens a session, and listens.
    pub(crate) async fn open(options: &PostgresOptions, certificates: &Certificates) -> Result<Self, Trouble> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let open = async {
            let (client, driver) = connecting::listening(options, certificates, sender).await?;
            client.batch_execute("LISTEN \"larder.changes\"").await.map_err(|error| trouble(&error))?;
            let session = Session::new(client, options.prepared);
            Ok(Self { session, heard: Heard(receiver), _driver: driver })
        };
        tokio::time::timeout(options.connect_timeout, open).await.unwrap_or(Err(Trouble::TimedOut(Awaited::Connection)))
    }

    /// Whether a notification arrives that `send` sends, by another session, with this text.
    pub(crate) async fn hears(
        &mut self,
        text: &str,
        send: impl Future<Output = Result<(), Trouble>>,
    ) -> Result<bool, Trouble> {
        send.await?;
        let arrives = async {
            while let Some(heard) = self.heard.next().await {
                if heard == text {
                    return Ok(true);
                }
            }
            Err(Trouble::broken("the session has ended"))
        };
        let Ok(arrived) = tokio::time::timeout(TRIAL, arrives).await else {
            // A pooler most likely has this session of the server still, and would pass its notifications to others.
            let unlisten = self.session.batch("UNLISTEN \"larder.changes\"");
            let _ = tokio::time::timeout(TRIAL, unlisten).await;
            return Ok(false);
        };
        arrived
    }

    /// The session, to send statements on, and what is heard on it.
    pub(crate) fn parts(&mut self) -> (&Session, &mut Heard) {
        (&self.session, &mut self.heard)
    }
}
