//! [`Server`]: a server, and the connection to it.

use super::cache::RemoteCache;
use super::journal::Limits;
use super::link::Link;
use super::server_kind::ServerKind;
use super::supervisor::Supervisor;
use crate::breaker::{Breaker, BreakerOptions, State, Transition};
use crate::clock::Clock;
use crate::contract::Schema;
use crate::option_error::{OptionError, setters};
use crate::telemetry::{Latencies, catalogue};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// The options of a [`Server`].
///
/// ```
/// use larder::connector::remote::ServerOptions;
/// use std::time::Duration;
///
/// let options = ServerOptions::new().operation_timeout(Duration::from_millis(50));
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// How long connecting may take, and how long each reply while a cache is recovered. Default 1 s.
    pub connect_timeout: Duration,
    /// How long an operation may take. Default 100 ms.
    pub operation_timeout: Duration,
    /// How many keys the journal of each cache may hold. Above it, the journal becomes one truncate. Default 10,000.
    pub journal_limit: usize,
    /// How much memory these keys may take for each cache, in bytes. Above it, the journal becomes one truncate. Default 16 MiB.
    pub journal_bytes: usize,
    /// The circuit breaker. Default [`BreakerOptions::for_server`].
    pub breaker: BreakerOptions,
}

impl ServerOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        connect_timeout: Duration,
        operation_timeout: Duration,
        journal_limit: usize,
        journal_bytes: usize,
        breaker: BreakerOptions,
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            operation_timeout: Duration::from_millis(100),
            journal_limit: 10_000,
            journal_bytes: 16 * 1024 * 1024,
            breaker: BreakerOptions::for_server(),
        }
    }
}

/// A server, and the connection to it, which all caches on it share.
///
/// The connection is closed when the last clone is dropped, those in connectors included.
pub struct Server<P: ServerKind> {
    owner: Arc<Owner<P>>,
}

impl<P: ServerKind> Clone for Server<P> {
    fn clone(&self) -> Self {
        Self { owner: self.owner.clone() }
    }
}

struct Owner<P: ServerKind> {
    supervisor: Arc<Supervisor<P>>,
    journal: Limits,
    task: AbortHandle,
}

impl<P: ServerKind> Drop for Owner<P> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<P: ServerKind> Server<P> {
    /// Begins to connect in the background, on this runtime. Until a connection is made, gets miss and invalidations are deferred. It is no
    /// error if the server is down now. `label` names the kind of server in the breaker's events.
    ///
    /// # Errors
    ///
    /// An option of the breaker cannot be used.
    pub fn open(
        label: &'static str,
        kind: P,
        options: ServerOptions,
        clock: Clock,
        runtime: &Handle,
    ) -> Result<Self, OptionError> {
        let breaker = Breaker::new(label, options.breaker, clock.clone())?;
        let name = kind.name().to_owned();
        let link = Arc::new(Link::new(kind, breaker, clock, options.operation_timeout, runtime.clone()));
        let told = Arc::downgrade(&link);
        link.breaker().subscribe(move |transition| {
            tell(&name, transition);
            if let Some(link) = told.upgrade() {
                link.give_up.notify_one();
            }
        });
        let supervisor =
            Arc::new(Supervisor { link, connect_timeout: options.connect_timeout, caches: Mutex::default() });
        let task = runtime.spawn(supervisor.clone().run()).abort_handle();
        let journal = Limits { keys: options.journal_limit, bytes: options.journal_bytes };
        Ok(Self { owner: Arc::new(Owner { supervisor, journal, task }) })
    }

    /// A cache on this server. It is recovered in the background, and read from then on.
    ///
    /// # Errors
    ///
    /// The schema cannot be used: see [`Schema::validate`]. For example, a name with a colon could reach another cache's keys.
    pub fn cache(&self, schema: Schema, local: P::Local) -> Result<Arc<RemoteCache<P>>, OptionError> {
        schema.validate()?;
        let Supervisor { link, caches, .. } = &*self.owner.supervisor;
        let cache = Arc::new(RemoteCache::new(link.clone(), schema, local, self.owner.journal));
        {
            let mut caches = caches.lock();
            // Removes dropped caches. Without a connection, the supervisor does not do it.
            caches.retain(|cache| cache.strong_count() > 0);
            caches.push(Arc::downgrade(&cache));
        }
        link.work.notify_one();
        Ok(cache)
    }

    /// The connection.
    #[must_use]
    pub fn link(&self) -> &Link<P> {
        &self.owner.supervisor.link
    }

    /// The breaker of the connection: its state, its events, and the switches to force it.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        self.link().breaker()
    }

    /// Whether there is a connection in use.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link().generation() != 0
    }

    /// How long the server's operations took.
    #[must_use]
    pub fn latencies(&self) -> &Latencies {
        self.link().latencies()
    }

    /// Hands the breaker's state and the latencies to the installed `metrics` recorder, labelled with the server's address.
    pub fn publish(&self) {
        let link = self.link();
        let server = link.kind().name();
        let snapshot = link.breaker().snapshot();
        catalogue::describe();
        for state in State::ALL {
            let value = if snapshot.state == state { 1.0 } else { 0.0 };
            catalogue::BREAKER_STATE.value([server, state.name()], value);
        }
        catalogue::BREAKER_OPENED.total([server], snapshot.opened);
        catalogue::BREAKER_REFUSED.total([server], snapshot.refused);
        catalogue::BREAKER_SHED.total([server], snapshot.shed);
        link.latencies().publish(server);
    }
}

impl<P: ServerKind> std::fmt::Debug for Server<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("name", &self.link().kind().name()).finish_non_exhaustive()
    }
}

/// Logs for operators when the breaker opens and when it closes. The trials in between, one a second, are logged at debug level.
fn tell(server: &str, transition: &Transition) {
    match (transition.from, transition.to) {
        (State::Open | State::HalfOpen, State::Open | State::HalfOpen) | (State::Ramping, State::Closed) => {
            tracing::debug!(%server, "circuit breaker: {transition}");
        }
        (_, State::Open | State::ForcedOpen) => tracing::warn!(%server, "circuit breaker: {transition}"),
        _ => tracing::info!(%server, "circuit breaker: {transition}"),
    }
}
