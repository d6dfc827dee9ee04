//! [`Watched`]: a master and a replica, and Sentinels that watch them.

use super::connection::no_answer;
use super::{Reply, Server, ServerBinary, ServerError, ServerOptions};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a replica may take to follow, and Sentinels to find each other or to agree.
const PATIENCE: Duration = Duration::from_secs(60);

/// A master, a replica of it, and Sentinels that watch them. All are real, and listen on ports of 127.0.0.1.
///
/// A master or replica that is restarted comes back as a master, until the Sentinels, or a test, make it a replica.
///
/// ```
/// use larder_testing::server::{ServerOptions, Watched, required};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// for binary in required()? {
///     let watched = Watched::start(&binary, ServerOptions::default(), 1).await?;
///     watched.fail_over().await?;
///     watched.until_named(&watched.replica).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Watched {
    /// The master, until there is a failover.
    pub master: Server,
    /// The replica, until there is a failover.
    pub replica: Server,
    /// The Sentinels. A majority of them must agree that the master is down.
    pub sentinels: Vec<Server>,
}

impl Watched {
    /// The name by which the Sentinels know the master.
    pub const NAME: &str = "mymaster";

    /// Starts everything, with these options for master and replica, and so many Sentinels. Returns when each Sentinel knows the replica and
    /// the other Sentinels, so that a failover can begin.
    ///
    /// # Errors
    ///
    /// As [`Server::start`]; [`ServerError::NoAnswer`]: they have not found each other within a minute.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, everything that runs is killed.
    pub async fn start(
        binary: &ServerBinary,
        options: ServerOptions,
        sentinels: usize,
    ) -> Result<Watched, ServerError> {
        Watched::start_with(binary, options, vec![ServerOptions::default(); sentinels]).await
    }

    /// As [`Watched::start`], with these options for each Sentinel.
    ///
    /// # Errors
    ///
    /// As [`Watched::start`].
    ///
    /// # Cancellation
    ///
    /// As [`Watched::start`].
    pub async fn start_with(
        binary: &ServerBinary,
        options: ServerOptions,
        sentinels: Vec<ServerOptions>,
    ) -> Result<Watched, ServerError> {
        // A replica is filled at once.
        let options = options.tcp().config("repl-diskless-sync-delay 0");
        let master = Server::start(binary, options.clone()).await?;
        let port = master.port().unwrap_or_default();
        let replica = Server::start(binary, options).await?;
        // Not in its configuration: a promoted replica that restarts would then follow the server that follows it.
        replica.accepted(&["REPLICAOF", "127.0.0.1", &port.to_string()]).await?;
        let mut watched = Watched { master, replica, sentinels: Vec::new() };
        // A Sentinel that finds a replica at once need not wait ten seconds until it looks again.
        within("INFO", async || {
            Ok(watched.replica.info("replication").await?.get("master_link_status").is_some_and(|link| link == "up"))
        })
        .await?;
        let quorum = sentinels.len() / 2 + 1;
        for options in sentinels {
            let options = options.tcp().sentinel(Watched::NAME, port, quorum);
            watched.sentinels.push(Server::start(binary, options).await?);
        }
        let others = (watched.sentinels.len() - 1).to_string();
        within("SENTINEL", async || {
            for sentinel in &watched.sentinels {
                let master = of_master(sentinel).await?;
                let [replica] = &of_replicas(sentinel).await?[..] else { return Ok(false) };
                // Before a Sentinel has asked the replica, it would not promote it.
                if !(is(&master, "num-other-sentinels", &others) && is(replica, "master-link-status", "ok")) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await?;
        Ok(watched)
    }

    /// Tells the first Sentinel to make the replica the master, although the master is in good health. Returns at once.
    ///
    /// # Errors
    ///
    /// As [`Server::command`], and [`ServerError::Refused`].
    pub async fn fail_over(&self) -> Result<(), ServerError> {
        let Some(sentinel) = self.sentinels.first() else { return Err(ServerError::Down) };
        sentinel.accepted(&["SENTINEL", "FAILOVER", Watched::NAME]).await.map(drop)
    }

    /// Which of both servers is the master now, and which the other one, as all Sentinels say that run. `None`: they do not agree, or do not answer, or
    /// one of them takes the master to be down or is failing over.
    pub async fn named(&self) -> Option<(&Server, &Server)> {
        let mut named = None;
        for sentinel in self.sentinels.iter().filter(|sentinel| sentinel.pid().is_some()) {
            let master = of_master(sentinel).await.ok()?;
            let is_named = |server: &&Server| is(&master, "port", &server.port().unwrap_or_default().to_string());
            if !is(&master, "flags", "master") {
                return None;
            }
            let server = [&self.master, &self.replica].into_iter().find(is_named)?;
            if *named.get_or_insert(server.port()) != server.port() {
                return None;
            }
        }
        let named = named?;
        Some(if self.master.port() == named { (&self.master, &self.replica) } else { (&self.replica, &self.master) })
    }

    /// Waits until all Sentinels name the same server, this server is a master, and the other one follows it. Returns both. To be called when all servers
    /// run.
    ///
    /// # Errors
    ///
    /// [`ServerError::NoAnswer`]: not within a minute.
    pub async fn settled(&self) -> Result<(&Server, &Server), ServerError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some((master, replica)) = self.named().await
                && let (Ok(first), Ok(second)) = (master.info("replication").await, replica.info("replication").await)
                && first.get("role").is_some_and(|role| role == "master")
                && second.get("master_link_status").is_some_and(|link| link == "up")
            {
                return Ok((master, replica));
            }
            if Instant::now() > deadline {
                return Err(no_answer(&["SENTINEL"])(ErrorKind::TimedOut.into()));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until every Sentinel names this server as the master, and has heard of the failover that made it one.
    ///
    /// # Errors
    ///
    /// As [`Server::command`]; [`ServerError::NoAnswer`]: they did not within a minute.
    pub async fn until_named(&self, server: &Server) -> Result<(), ServerError> {
        let port = server.port().unwrap_or_default().to_string();
        within("SENTINEL", async || {
            for sentinel in &self.sentinels {
                if !is(&of_master(sentinel).await?, "port", &port) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await
    }
}

/// What a Sentinel knows of the master: names and values.
async fn of_master(sentinel: &Server) -> Result<Vec<String>, ServerError> {
    Ok(texts(&sentinel.accepted(&["SENTINEL", "MASTER", Watched::NAME]).await?))
}

/// What a Sentinel knows of each replica.
async fn of_replicas(sentinel: &Server) -> Result<Vec<Vec<String>>, ServerError> {
    match sentinel.accepted(&["SENTINEL", "REPLICAS", Watched::NAME]).await? {
        Reply::Array(replicas) => Ok(replicas.iter().map(texts).collect()),
        reply => Err(ServerError::Refused { command: "SENTINEL".into(), reply }),
    }
}

fn texts(reply: &Reply) -> Vec<String> {
    let Reply::Array(fields) = reply else { return Vec::new() };
    fields.iter().map(|field| String::from_utf8_lossy(field.bytes().unwrap_or_default()).into_owned()).collect()
}

/// Whether the field of this name has this value.
fn is(fields: &[String], name: &str, value: &str) -> bool {
    fields.chunks(2).any(|field| matches!(field, [field, found] if field == name && found == value))
}

/// Waits until the condition holds. `command` is what it asks.
async fn within(command: &str, condition: impl AsyncFn() -> Result<bool, ServerError>) -> Result<(), ServerError> {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await? {
        if Instant::now() > deadline {
            return Err(no_answer(&[command])(ErrorKind::TimedOut.into()));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
