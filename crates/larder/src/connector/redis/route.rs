//! [`Route`]: the way to a server. If the options name Sentinels, they are asked which server it is. In a cluster it is the primary of a slot.

use crate::clock::Clock;
use crate::connector::redis::layout;
use crate::connector::redis::options::{Address, RedisOptions};
use crate::connector::redis::sentinel::Sentinels;
use crate::connector::redis::slots::slot_of;
use crate::connector::redis::topology::Topology;
use crate::connector::redis::wire::bell::Bell;
use crate::connector::redis::wire::connect::{self, Driver};
use crate::connector::redis::wire::connection::Connection;
use crate::connector::redis::wire::dial::{CertificateEnds, Dialer, Socket};
use crate::connector::redis::wire::replies::{field, moved_to, text, tolerated};
use crate::connector::remote::{Awaited, Trouble, What};
use crate::connector::tls::Renewal;
use redis::{Cmd, Value};
use std::io;
use std::sync::Arc;

/// The way to a server.
pub(crate) struct Route {
    config: RedisOptions,
    dialer: Dialer,
    to: To,
    /// What names of keys begin with that belong to no cache.
    spare: String,
}

/// What a route leads to.
enum To {
    /// The server at the options' address.
    Address,
    /// The master that they name.
    Master(Arc<Sentinels>),
    /// The primary of a slot.
    Slot {
        topology: Arc<Topology>,
        slot: u16,
        /// A key in that slot.
        clock: String,
    },
}

impl Route {
    pub(crate) fn new(config: &RedisOptions) -> Self {
        let dialer = Dialer::new(config.place(), config.tls.as_ref(), config.connect_timeout);
        let sentinels =
            config.sentinel.as_ref().map(|sentinel| Arc::new(Sentinels::new(sentinel, config.connect_timeout)));
        let to = sentinels.map_or(To::Address, To::Master);
        Self { config: config.clone(), dialer, to, spare: config.prefix.clone() }
    }

    /// The way to the primary of the slot in which a cache is.
    pub(crate) fn to_slot(config: &RedisOptions, topology: Arc<Topology>, cache: &str) -> Self {
        let base = layout::base_in_cluster(&config.prefix, cache);
        let spare = base.trim_end_matches(':').to_owned();
        let to = To::Slot { slot: slot_of(base.as_bytes()), clock: format!("{base}c"), topology: topology.clone() };
        Self { config: config.clone(), dialer: topology.dialer().named(None), to, spare }
    }

    /// What names of keys begin with that belong to no cache, and that the server serves: `<spare>::r`.
    pub(crate) fn spare(&self) -> &str {
        &self.spare
    }

    /// What the names of all keys of a cache begin with.
    pub(crate) fn base(&self, cache: &str) -> String {
        match &self.to {
            To::Slot { .. } => layout::base_in_cluster(&self.config.prefix, cache),
            To::Address | To::Master(_) => layout::base(&self.config.prefix, cache),
        }
    }

    /// A command that a server answers with MOVED if it is no longer the one that the route leads to. `None`: there is none.
    pub(crate) fn look(&self) -> Option<Cmd> {
        let To::Slot { clock, .. } = &self.to else { return None };
        let mut look = redis::cmd("GETRANGE");
        look.arg(clock).arg(0).arg(0);
        Some(look)
    }

    /// What makes the configurations of TLS, to the server and to the Sentinels.
    pub(crate) fn renewals(&self) -> impl Iterator<Item = &Arc<Renewal>> {
        let sentinels = match &self.to {
            To::Master(sentinels) => sentinels.renewal(),
            To::Address | To::Slot { .. } => None,
        };
        self.dialer.renewal().into_iter().chain(sentinels)
    }

    /// Connects to the server, and makes sure that the server serves. Returns the connection, and the task that drives it.
    pub(crate) async fn reach(&self, clock: &Clock) -> Result<(Connection, Driver), Trouble> {
        let sentinels = match &self.to {
            To::Address => return connect::reach(&self.config, &self.dialer, &self.spare, clock).await,
            To::Slot { topology, slot, .. } => {
                return self.reach_primary(topology, *slot, clock).await.map(|(reached, _)| reached);
            }
            To::Master(sentinels) => sentinels,
        };
        let master = sentinels.master().await?;
        let config = self.config.clone().address(master.address.clone());
        let reached = async {
            let (connection, driver) = connect::reach(&config, &self.dialer, &self.spare, clock).await?;
            let asked = tokio::time::timeout(config.connect_timeout, must_be_master(&connection));
            asked.await.map_err(|_| Trouble::TimedOut(Awaited::Connection)).flatten()?;
            // A server that was stopped may have kept this waiting, while another one became the master.
            match sentinels.confirm(&master).await {
                Some(why) => Err(Trouble::broken(why)),
                None => Ok((connection, driver)),
            }
        };
        match reached.await {
            Ok((connection, driver)) => Ok((connection.with_master(master), driver)),
            Err(Trouble::Error { what, text }) => {
                let text = format!("the server {}, which the Sentinels name as the master: {text}", master.address);
                Err(Trouble::Error { what, text })
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// As [`reach`](Self::reach). In a cluster, also returns the address of the node that has the slot.
    pub(crate) async fn reach_and_name(
        &self,
        clock: &Clock,
    ) -> Result<((Connection, Driver), Option<Address>), Trouble> {
        match &self.to {
            To::Slot { topology, slot, .. } => {
                let (reached, address) = self.reach_primary(topology, *slot, clock).await?;
                Ok((reached, Some(address)))
            }
            To::Address | To::Master(_) => Ok((self.reach(clock).await?, None)),
        }
    }

    /// A node that says where the slot has moved is believed once. After any other error the cluster is asked, at the next attempt.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the cluster is asked at the next attempt as well: whoever has waited for long enough drops it.
    async fn reach_primary(
        &self,
        topology: &Arc<Topology>,
        slot: u16,
        clock: &Clock,
    ) -> Result<((Connection, Driver), Address), Trouble> {
        let mut node = topology.primary(slot).await?;
        let mut doubted = Doubted { topology, holds: true };
        let mut moved = false;
        loop {
            let config = self.config.clone().address(node.address.clone());
            let dialer = self.dialer.named(node.name.as_deref());
            // The first command with a key is answered with MOVED if the slot is elsewhere.
            let trouble = match connect::reach(&config, &dialer, &self.spare, clock).await {
                Ok(reached) => {
                    doubted.holds = false;
                    return Ok((reached, node.address));
                }
                Err(trouble) => trouble,
            };
            match moved_to(&trouble).filter(|_| !moved) {
                Some(to) => (node, moved) = (topology.moved(slot, &to), true),
                None => {
                    return Err(match trouble {
                        Trouble::Error { what, text } => {
                            Trouble::Error { what, text: format!("{}: {text}", node.address) }
                        }
                        other => other,
                    });
                }
            }
        }
    }

    /// Gives each message on this channel to the bell, as long as the driver lives. `connection` is the one in use, to the same server.
    pub(crate) async fn subscribe(
        &self,
        connection: &Connection,
        channel: &str,
        bell: Arc<Bell>,
    ) -> Result<(Connection, Driver), Trouble> {
        let (address, dialer) = match (&self.to, &connection.master) {
            (To::Master(_), Some(master)) => (master.address.clone(), self.dialer.named(None)),
            (To::Slot { topology, slot, .. }, _) => {
                let node = topology.primary(*slot).await?;
                (node.address, self.dialer.named(node.name.as_deref()))
            }
            (To::Address | To::Master(_), _) => (self.config.address.clone(), self.dialer.named(None)),
        };
        connect::subscribe(&self.config.clone().address(address), &dialer, channel, bell).await
    }

    /// Asks the Sentinels with each heartbeat, until they name another master than the server of this connection. Returns why the connection
    /// must be given up. Without Sentinels it never ends.
    pub(crate) fn another_master(&self, connection: &Connection) -> impl Future<Output = &'static str> + Send + use<> {
        let watched = match (&self.to, &connection.master) {
            (To::Master(sentinels), Some(master)) => Some((sentinels.clone(), master.clone())),
            _ => None,
        };
        async move {
            match watched {
                Some((sentinels, master)) => sentinels.another_master(&master).await,
                None => std::future::pending().await,
            }
        }
    }

    async fn dial(&self) -> Result<Socket, Trouble> {
        match &self.to {
            To::Master(sentinels) => self.dialer.dial(&sentinels.master().await?.address).await,
            To::Address | To::Slot { .. } => self.dialer.dial(&self.config.address).await,
        }
    }
}

/// Doubts what is known of the slots when an attempt to connect ends, unless it has succeeded.
struct Doubted<'a> {
    topology: &'a Topology,
    holds: bool,
}

impl Drop for Doubted<'_> {
    fn drop(&mut self) {
        if self.holds {
            self.topology.doubt();
        }
    }
}

/// Makes sure that the server says on this very connection that it is a master: a failover may have come after the Sentinels' answer, or may
/// be under way.
async fn must_be_master(connection: &Connection) -> Result<(), Trouble> {
    let role = match tolerated(connection.send(&redis::cmd("ROLE")).await)? {
        Some(Value::Array(role)) => role.into_iter().next().and_then(text),
        _ => {
            let mut info = redis::cmd("INFO");
            info.arg("replication");
            let replication = tolerated(connection.send(&info).await)?.and_then(text);
            replication.and_then(|replication| field(&replication, "role").map(str::to_owned))
        }
    };
    let (what, text) = match role.as_deref() {
        Some("master") => return Ok(()),
        Some(_) => (What::ReadOnly, "it says that it is a replica: the failover is not over yet"),
        None => (What::Refused, "it does not say whether it is a master: grant larder's user `+role`, or `+info`"),
    };
    Err(Trouble::Error { what, text: text.to_owned() })
}

/// Connects to a server as larder does, TLS included, and says nothing on the connection. If the options name Sentinels, it is the server
/// that these take for the master. With TLS, also returns until when the certificates are valid.
///
/// ```no_run
/// use larder::connector::redis::RedisOptions;
/// use larder::connector::redis::inspect::dial;
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut socket, ends) = dial(&RedisOptions::from_url("rediss://cache.internal")?).await?;
/// socket.write_all(b"PING\r\n").await?;
/// if let Some(end) = ends.and_then(|ends| ends.server) {
///     println!("the server's certificate {end}");
/// }
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// An option cannot be used; no Sentinel says which server is the master; the server cannot be reached; the handshake of TLS fails, and the text says why. [`io::ErrorKind::TimedOut`]: it
/// took longer than the options' `connect_timeout`.
///
/// # Cancellation
///
/// Dropping the future closes the connection.
pub async fn dial(options: &RedisOptions) -> io::Result<(Socket, Option<CertificateEnds>)> {
    options.validate().map_err(io::Error::other)?;
    let route = Route::new(options);
    let dialed = tokio::time::timeout(options.connect_timeout, route.dial()).await;
    match dialed.unwrap_or(Err(Trouble::TimedOut(Awaited::Connection))) {
        Ok(socket) => Ok((socket, CertificateEnds::of(&route.dialer))),
        Err(trouble @ Trouble::TimedOut(_)) => Err(io::Error::new(io::ErrorKind::TimedOut, trouble)),
        Err(trouble) => Err(io::Error::other(trouble)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::redis::options::Address;
    use std::time::Duration;

    /// The supervisor gives an attempt up after the same time as the attempt itself. If it was first, what was known of the slots was not doubted, and
    /// the next attempt went to the same node.
    #[tokio::test]
    async fn an_attempt_that_is_given_up_is_a_doubt() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let none: [&str; 0] = [];
        let config = RedisOptions::new(format!("127.0.0.1:{port}").as_str()).cluster(none);
        let topology = Arc::new(Topology::new(config.clone()));
        let route = Route::to_slot(&config, topology.clone(), "instance");
        let To::Slot { slot, .. } = &route.to else { panic!("no route to a slot") };
        topology.moved(*slot, &Address::Tcp { host: "127.0.0.1".to_owned(), port });
        assert!(!topology.is_doubted());
        let clock = Clock::system();
        tokio::select! {
            biased;
            _ = route.reach(&clock) => panic!("nobody answers"),
            // It is connected, and waits for an answer.
            _ = listener.accept() => {}
            () = tokio::time::sleep(Duration::from_secs(60)) => panic!("nobody has connected"),
        }
        assert!(topology.is_doubted());
    }
}
