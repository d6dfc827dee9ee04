//! [`Sentinels`]: which server is the master, as the Sentinels say.
//!
//! # Why larder asks with each heartbeat
//!
//! A failover does not end the old master. One that was stopped and goes on, or that a graceful failover has replaced, takes reads and
//! writes for ten seconds more, says that it is a master, and has the replication history that it had. So nothing on that connection shows
//! that another server is the master. Only the Sentinels know, so each heartbeat asks them (pitfall T11). A node leaves the old master with
//! the first heartbeat after a majority of the Sentinels have heard of the failover.
//!
//! # The steps
//!
//! 1. All Sentinels are asked at once. `majority.rs` decides which answer counts.
//! 2. larder connects to that server, and ROLE *on this connection* must say that it is a master (`route.rs`). Then the Sentinels are asked
//!    again: a server that was stopped may have kept larder waiting while another one became the master.
//! 3. Nothing is recovered, read or applied there before every other node had the time to leave the old master
//!    ([`Master::alone_from`]). An invalidation is deferred until then. So *applied* means what it means on one server: no node reads an older
//!    state any more. A node that reaches no Sentinel is the exception, unless it is `strict`.
//! 4. Each heartbeat asks again, and compares.
//!
//! Connections to the Sentinels are kept between the questions.

mod asked;
mod majority;

use crate::connector::redis::options::{Address, SentinelOptions};
use crate::connector::redis::wire::connection::Master;
use crate::connector::redis::wire::dial::Dialer;
use crate::connector::remote::{Trouble, What};
use crate::connector::tls::Renewal;
use crate::protection::{Protection, holds};
use asked::Asked;
pub(crate) use majority::Said;
use majority::{Undecided, decide, is_final};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often the Sentinels are asked.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long the Sentinels may take to answer, at most. It must be well below a heartbeat: the grace counts on it that a node has left the old
/// master within two heartbeats.
const ANSWER: Duration = Duration::from_millis(500);

/// After so many heartbeats without an answer that counts, it is said, or the connection is given up.
const PATIENCE: u32 = 3;

/// The Sentinels of one master.
pub(crate) struct Sentinels {
    shared: Arc<Shared>,
    /// Within this time they must have answered.
    within: Duration,
    state: Mutex<State>,
}

struct Shared {
    options: SentinelOptions,
    dialer: Dialer,
    each: Vec<Arc<Asked>>,
}

#[derive(Default)]
struct State {
    /// The server that was last taken for the master.
    last: Option<Address>,
    /// The epoch that was last taken for the newest.
    heard: u64,
    /// How many heartbeats in a row had no answer that counts.
    unconfirmed: u32,
}

/// What one Sentinel has answered.
pub(crate) type Answer = (Address, Result<Said, Trouble>);

impl Sentinels {
    /// `connect_timeout` is the time for a whole connect. The question takes half of it at most.
    pub(crate) fn new(options: &SentinelOptions, connect_timeout: Duration) -> Self {
        let within = ANSWER.min(connect_timeout / 2);
        let dialer = Dialer::new(format!("the Sentinels of {}", options.master), options.tls.as_ref(), within);
        let each = options.hosts.iter().cloned().map(|host| Arc::new(Asked::new(host))).collect();
        Self { shared: Arc::new(Shared { options: options.clone(), dialer, each }), within, state: Mutex::default() }
    }

    /// What makes the configuration of TLS to the Sentinels, if there is TLS.
    pub(crate) fn renewal(&self) -> Option<&Arc<Renewal>> {
        self.shared.dialer.renewal()
    }

    /// Which server is the master now.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, connections on which an answer is awaited are closed.
    pub(crate) async fn master(&self) -> Result<Master, Trouble> {
        let asked_at = Instant::now();
        let said = self.believed(&self.ask(Enough::Majority).await)?;
        self.heard(&said);
        let Said { address, epoch, since } = said;
        let options = &self.shared.options;
        let grace = if holds(Protection::Grace) { options.grace.saturating_sub(since) } else { Duration::ZERO };
        let last = self.state.lock().last.replace(address.clone());
        let master = &options.master;
        match last {
            Some(before) if before != address => {
                tracing::warn!(%master, %address, epoch, %before, "another server is the master");
            }
            None => tracing::info!(%master, %address, epoch, "the Sentinels say which server is the master"),
            Some(_) => {}
        }
        if !grace.is_zero() {
            let grace_ms = grace.as_millis();
            tracing::info!(%master, %address, grace_ms, "the Sentinels have not known this master for long: its caches are used after the grace");
        }
        Ok(Master { address, epoch, alone_from: asked_at + grace })
    }

    /// Asks with each heartbeat, until the server that a connection leads to is not the master any more, or, if `strict`, until that may be.
    /// Returns why the connection must be given up.
    ///
    /// These heartbeats are not those of the connection: a server that hangs must not hold up the question.
    pub(crate) async fn another_master(&self, known: &Master) -> &'static str {
        let mut next = Instant::now() + HEARTBEAT;
        loop {
            tokio::time::sleep_until(next).await;
            next = Instant::now() + HEARTBEAT;
            if let Some(why) = self.confirm(known).await {
                return why;
            }
        }
    }

    /// Asks whether the server that a connection leads to is the master still. Returns why the connection must be given up.
    pub(crate) async fn confirm(&self, known: &Master) -> Option<&'static str> {
        let trouble = match self.believed(&self.ask(Enough::Majority).await) {
            Ok(said) => {
                self.heard(&said);
                return if said.address != known.address {
                    Some("the Sentinels name another server as the master")
                } else if said.epoch > known.epoch {
                    Some("the Sentinels have failed over, and back to this server")
                } else {
                    None
                };
            }
            Err(trouble) => trouble,
        };
        let unconfirmed = {
            let mut state = self.state.lock();
            state.unconfirmed = state.unconfirmed.saturating_add(1);
            state.unconfirmed
        };
        if unconfirmed != PATIENCE {
            return None;
        }
        let (master, address) = (&self.shared.options.master, &known.address);
        if self.shared.options.strict {
            tracing::warn!(%master, %address, "the master is not confirmed: {trouble}");
            return Some(
                "no majority of the Sentinels has confirmed the master for three heartbeats, and `strict` asks for one",
            );
        }
        tracing::warn!(
            %master, %address,
            "the Sentinels have not confirmed the master for three heartbeats: the connection is kept, and a failover would not be noticed. \
             {trouble}"
        );
        None
    }

    /// What each Sentinel answers, and what is to be believed.
    pub(crate) async fn survey(&self) -> (Vec<Answer>, Result<Said, Trouble>) {
        let answers = self.ask(Enough::Everybody).await;
        let believed = self.believed(&answers);
        (answers, believed)
    }

    /// Asks all Sentinels at once. Returns their answers, in the order of the options.
    async fn ask(&self, enough: Enough) -> Vec<Answer> {
        let each = &self.shared.each;
        let mut questions = JoinSet::new();
        for (place, one) in each.iter().cloned().enumerate() {
            let (shared, within) = (self.shared.clone(), self.within);
            questions.spawn(async move {
                let Shared { options, dialer, .. } = &*shared;
                let late = || Trouble::broken(format!("no answer within {within:?}"));
                let answer =
                    tokio::time::timeout(within, one.ask(dialer, options)).await.unwrap_or_else(|_| Err(late()));
                one.tell(options, answer.as_ref().map(|_| ()));
                (place, (one.address.clone(), answer))
            });
        }
        let mut answers = Vec::with_capacity(each.len());
        while let Some(answered) = questions.join_next().await {
            answers.extend(answered);
            if enough == Enough::Majority && is_final(&said(answers.iter().map(|(_, answer)| answer)), each.len()) {
                break;
            }
        }
        // The others keep their connections, and soon end by themselves.
        questions.detach_all();
        answers.sort_by_key(|(place, _)| *place);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Which of the answers counts. The error says what each Sentinel has answered.
    fn believed(&self, answers: &[Answer]) -> Result<Said, Trouble> {
        let Shared { options, each, .. } = &*self.shared;
        let heard = self.state.lock().heard;
        let why = match decide(&said(answers.iter()), each.len(), heard, options.strict) {
            Some(Ok(said)) => return Ok(said),
            Some(Err(Undecided::Disagreement)) => "the Sentinels disagree about the master".to_owned(),
            Some(Err(Undecided::Behind)) => {
                format!(
                    "the Sentinels that answer are behind: others have told of a failover to config epoch {heard}, for the master"
                )
            }
            Some(Err(Undecided::TooFew)) => {
                "fewer than a majority of the Sentinels confirm, as `strict` asks, the master".to_owned()
            }
            None => "no Sentinel says which server is the master".to_owned(),
        };
        let parts = answers.iter().map(|(sentinel, answer)| match answer {
            Ok(said) => format!("{sentinel} names {} (config epoch {})", said.address, said.epoch),
            Err(trouble) => format!("{sentinel}: {trouble}"),
        });
        let text = format!("{why} `{}`: {}", options.master, parts.collect::<Vec<_>>().join("; "));
        // If no Sentinel lets larder in, or none knows the master, only a person can help.
        let refused =
            |(_, answer): &Answer| answer.as_ref().is_err_and(|trouble| trouble.what() == Some(What::Refused));
        let what = if answers.iter().all(refused) { What::Refused } else { What::Broken };
        Err(Trouble::Error { what, text })
    }

    /// Notes an answer that counts.
    fn heard(&self, said: &Said) {
        let unconfirmed = {
            let mut state = self.state.lock();
            state.heard = said.epoch;
            std::mem::take(&mut state.unconfirmed)
        };
        if unconfirmed >= PATIENCE {
            tracing::info!(master = %self.shared.options.master, address = %said.address, "the Sentinels tell again which server is the master");
        }
    }
}

/// How many answers are waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Enough {
    /// Those that decide.
    Majority,
    Everybody,
}

/// What those say who have answered.
fn said<'a>(answers: impl Iterator<Item = &'a Answer>) -> Vec<Said> {
    answers.filter_map(|(_, answer)| answer.as_ref().ok().cloned()).collect()
}
