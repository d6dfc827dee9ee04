//! Real servers for tests: Redis and Valkey, each in a folder of its own, that can be stopped, killed and restarted.
//!
//! A simulated server behaves as its author believes a server does, and what goes wrong with caches is what nobody
//! believed. So a test starts the real program, here, and breaks it with signals and commands. What no real server can be
//! made to say is said by a [`ScriptedServer`]; what goes wrong on the way to a server is up to [`crate::proxy`].
//!
//! A server listens on a Unix socket, and on a port of 127.0.0.1 if [asked to](ServerOptions::tcp); the test talks to it
//! beside the client under test, through [`Server::command`]. It ends with its owner, also when a test panics. When the test process is
//! killed itself, the server ends where Linux and `setpriv` are there to see to it; elsewhere it is left behind.
//!
//! # Limits
//!
//! Unix only. One server, not a cluster: its config lines can make it part of one. The server's user `larder-control`
//! belongs to this module, so that no password and no ACL a test sets locks the test out; an `aclfile` line is therefore
//! refused by the server. Use `user` lines instead.

mod address;
mod binary;
mod connection;
mod endpoint;
mod error;
mod options;
mod process;
mod resp;
mod scripted;

pub(crate) use endpoint::{Endpoint, Stream};

pub use binary::{Flavour, ServerBinary, installed, required};
pub use connection::Connection;
pub use error::ServerError;
pub use options::ServerOptions;
pub use resp::Reply;
pub use scripted::ScriptedServer;

use connection::no_answer;
use error::machine;
use process::Process;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// How long a server may take to answer for the first time, or to save and end.
const START: Duration = Duration::from_secs(30);

/// The user that this module is on every server.
const CONTROL: &str = "larder-control";

const CONFIG: &str = "server.conf";
const LOG: &str = "server.log";
const SOCKET: &str = "redis.sock";

/// A running Redis or Valkey server. Dropping it kills the server and removes all it has written.
///
/// ```
/// use larder_testing::server::{Reply, Server, ServerOptions, required};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// for binary in required()? {
///     let server = Server::start(&binary, ServerOptions::default()).await?;
///     server.command(&["SET", "key", "value"]).await?;
///     server.kill();
///     server.restart().await?;
///     assert_eq!(server.command(&["GET", "key"]).await?, Reply::Nil);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Concurrency
///
/// All methods take `&self`: one task can use the server while another breaks it.
#[derive(Debug)]
pub struct Server {
    // The process comes before the folder, because it must be gone before its folder is.
    state: Mutex<State>,
    folder: TempDir,
    socket: PathBuf,
    binary: ServerBinary,
    password: String,
}

#[derive(Debug)]
struct State {
    process: Option<Process>,
    options: ServerOptions,
    /// Kept over a restart, also over one without TCP.
    port: Option<u16>,
}

impl Server {
    /// Starts a server and returns once it answers, be it `LOADING`.
    ///
    /// # Errors
    ///
    /// [`ServerError::Start`], with the server's log, when it ends or has not answered after 30 seconds.
    ///
    /// # Cancellation
    ///
    /// Dropping the future kills the server.
    pub async fn start(binary: &ServerBinary, options: ServerOptions) -> Result<Server, ServerError> {
        let folder = address::folder().map_err(machine("cannot make a temporary folder"))?;
        let server = Server {
            socket: folder.path().join(SOCKET),
            folder,
            binary: binary.clone(),
            password: std::iter::repeat_with(fastrand::alphanumeric).take(32).collect(),
            state: Mutex::new(State { process: None, options, port: None }),
        };
        server.launch().await?;
        Ok(server)
    }

    /// Ends the server, if it runs, and starts it again with the same options, on the same socket and port. A
    /// [persistent](ServerOptions::persistent) server that runs saves first, and has its data again; any other has what was last
    /// saved on purpose, if anything ever was.
    ///
    /// # Errors
    ///
    /// As [`Server::start`]; for a persistent server as [`Server::shutdown_save`] too.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the server running or down.
    pub async fn restart(&self) -> Result<(), ServerError> {
        let options = self.state().options.clone();
        self.restart_with(options).await
    }

    /// As [`Server::restart`], with other options from now on.
    ///
    /// # Errors
    ///
    /// As [`Server::restart`].
    ///
    /// # Cancellation
    ///
    /// As [`Server::restart`].
    pub async fn restart_with(&self, options: ServerOptions) -> Result<(), ServerError> {
        if self.pid().is_some() && self.state().options.persistent {
            self.cont()?;
            self.shutdown_save().await?;
        }
        self.kill();
        self.state().options = options;
        self.launch().await
    }

    /// Stops the server (SIGSTOP) and returns when it has stopped: connections stay open, and new ones are taken, but
    /// nothing is answered until [`Server::cont`].
    ///
    /// # Errors
    ///
    /// [`ServerError::Down`] when it is not running.
    pub fn stop(&self) -> Result<(), ServerError> {
        self.running(|process| process.stop().map_err(machine("cannot stop the server")))
    }

    /// Lets a stopped server continue (SIGCONT); it then answers all it has been sent meanwhile.
    ///
    /// # Errors
    ///
    /// [`ServerError::Down`] when it is not running.
    pub fn cont(&self) -> Result<(), ServerError> {
        self.running(|process| process.cont().map_err(machine("cannot let the server continue")))
    }

    /// Kills the server (SIGKILL), stopped or not, and returns when it is gone. What it did not save is lost. Killing a
    /// dead server is fine.
    pub fn kill(&self) {
        let process = self.state().process.take();
        drop(process);
    }

    /// Has the server save its data and end, and returns when it is gone.
    ///
    /// # Errors
    ///
    /// [`ServerError::Refused`] when it cannot save, [`ServerError::NoAnswer`] when it has not ended after 30 seconds.
    pub async fn shutdown_save(&self) -> Result<(), ServerError> {
        let command = ["SHUTDOWN", "SAVE"];
        let mut connection = self.connect().await?;
        match timeout(START, connection.exchange(&command)).await {
            Err(_) => return Err(no_answer(&command)(ErrorKind::TimedOut.into())),
            Ok(Ok(reply)) => return Err(ServerError::Refused { command: "SHUTDOWN".into(), reply }),
            // It closes the connection shortly before it ends.
            Ok(Err(_)) => {}
        }
        let deadline = Instant::now() + START;
        while self.pid().is_some() {
            if Instant::now() > deadline {
                return Err(no_answer(&command)(ErrorKind::TimedOut.into()));
            }
            sleep(Duration::from_millis(1)).await;
        }
        self.kill();
        Ok(())
    }

    /// The number of the server's process; `None` when it is not running.
    pub fn pid(&self) -> Option<u32> {
        self.running(|process| Ok(process.id())).ok()
    }

    /// The program that runs.
    pub fn binary(&self) -> &ServerBinary {
        &self.binary
    }

    /// The Unix socket it listens on, the same for its whole life.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The port of 127.0.0.1 it listens on, if it was [asked to](ServerOptions::tcp); the same for its whole life.
    pub fn port(&self) -> Option<u16> {
        let state = self.state();
        state.port.filter(|_| state.options.tcp)
    }

    /// Its address for a client: `redis://127.0.0.1:port` if it listens on a port, else `redis+unix:///path`.
    pub fn url(&self) -> String {
        match self.port() {
            Some(port) => format!("redis://127.0.0.1:{port}"),
            None => format!("redis+unix://{}", self.socket.display()),
        }
    }

    /// All that the server has printed, over all its restarts.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.path().join(LOG)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A connection with every right, whatever passwords and ACLs have been set since.
    ///
    /// # Errors
    ///
    /// [`ServerError::NoAnswer`] when the server does not let it in within 5 seconds.
    pub async fn connect(&self) -> Result<Connection, ServerError> {
        let mut connection = Connection::open(&self.socket).await?;
        connection.accepted(&["AUTH", CONTROL, &self.password]).await?;
        Ok(connection)
    }

    /// Sends one command, on a connection of its own (in database 0), and returns the answer, be it an error.
    ///
    /// # Errors
    ///
    /// [`ServerError::NoAnswer`] when there is no answer within 5 seconds, as from a server that is stopped.
    pub async fn command(&self, args: &[impl AsRef<[u8]>]) -> Result<Reply, ServerError> {
        self.connect().await?.command(args).await
    }

    /// Forgets all data of all databases.
    ///
    /// # Errors
    ///
    /// As [`Server::command`], and [`ServerError::Refused`].
    pub async fn flushall(&self) -> Result<(), ServerError> {
        self.accepted(&["FLUSHALL"]).await.map(drop)
    }

    /// Forgets all scripts.
    ///
    /// # Errors
    ///
    /// As [`Server::command`], and [`ServerError::Refused`].
    pub async fn script_flush(&self) -> Result<(), ServerError> {
        self.accepted(&["SCRIPT", "FLUSH", "SYNC"]).await.map(drop)
    }

    /// Changes a setting until the next restart.
    ///
    /// # Errors
    ///
    /// As [`Server::command`], and [`ServerError::Refused`].
    pub async fn config_set(&self, name: &str, value: &str) -> Result<(), ServerError> {
        self.accepted(&["CONFIG", "SET", name, value]).await.map(drop)
    }

    /// Closes all connections of clients but the one that asks for it, and returns how many those were. Replicas stay.
    ///
    /// # Errors
    ///
    /// As [`Server::command`], and [`ServerError::Refused`].
    pub async fn client_kill_all(&self) -> Result<i64, ServerError> {
        let mut connection = self.connect().await?;
        let mut killed = 0;
        for kind in ["normal", "pubsub"] {
            let reply = connection.accepted(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).await?;
            killed += reply.int().unwrap_or_default();
        }
        Ok(killed)
    }

    /// The keys of database 0 that match `pattern`, in order.
    ///
    /// # Errors
    ///
    /// As [`Server::command`], and [`ServerError::Refused`].
    pub async fn keys(&self, pattern: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>, ServerError> {
        let reply = self.accepted(&[b"KEYS", pattern.as_ref()]).await?;
        let Reply::Array(keys) = reply else {
            return Err(ServerError::Refused { command: "KEYS".into(), reply });
        };
        let mut keys: Vec<_> = keys.iter().filter_map(Reply::bytes).map(<[u8]>::to_vec).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// The fields of one section of `INFO`.
    ///
    /// # Errors
    ///
    /// As [`Server::command`], and [`ServerError::Refused`].
    pub async fn info(&self, section: &str) -> Result<BTreeMap<String, String>, ServerError> {
        let reply = self.accepted(&["INFO", section]).await?;
        let text = String::from_utf8_lossy(reply.bytes().unwrap_or_default());
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.into(), value.into()))
            .collect())
    }

    /// The processor time that the server's process has used since it started, without that of its children.
    ///
    /// # Errors
    ///
    /// As [`Server::command`], and [`ServerError::Refused`].
    pub async fn used_cpu(&self) -> Result<Duration, ServerError> {
        let fields = self.info("cpu").await?;
        let used =
            |name: &str| fields.get(name)?.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match (used("used_cpu_sys"), used("used_cpu_user")) {
            (Some(sys), Some(user)) => Ok(sys + user),
            _ => Err(ServerError::Refused { command: "INFO".into(), reply: Reply::Status(format!("{fields:?}")) }),
        }
    }

    async fn accepted(&self, args: &[impl AsRef<[u8]>]) -> Result<Reply, ServerError> {
        self.connect().await?.accepted(args).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is a single assignment, so a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running<T>(&self, act: impl FnOnce(&Process) -> Result<T, ServerError>) -> Result<T, ServerError> {
        match &self.state().process {
            Some(process) if !process.has_ended().map_err(machine("cannot look at the server"))? => act(process),
            _ => Err(ServerError::Down),
        }
    }

    async fn launch(&self) -> Result<(), ServerError> {
        loop {
            let known = self.state().port;
            let Err(error) = self.launch_once().await else { return Ok(()) };
            // Between the choice of a port and the server's start another process may have taken it. The log has all
            // attempts, which also bounds their number.
            let taken = self.log().matches("Address already in use").count();
            if known.is_some() || taken == 0 || taken > 10 {
                return Err(error);
            }
            self.state().port = None;
        }
    }

    async fn launch_once(&self) -> Result<(), ServerError> {
        let (options, mut port) = {
            let state = self.state();
            (state.options.clone(), state.port)
        };
        if options.tcp && port.is_none() {
            port = Some(address::free_port().map_err(machine("cannot choose a port"))?);
        }
        // Relative paths, because the server would need others quoted.
        let own = format!(
            "daemonize no\nbind 127.0.0.1\nport {port}\nunixsocket {SOCKET}\nunixsocketperm 700\ndir .\nappendonly no\n\
             enable-debug-command local\nuser {CONTROL} on >{password} ~* &* +@all\n",
            port = port.filter(|_| options.tcp).unwrap_or_default(),
            password = self.password,
        );
        let folder = self.folder.path();
        fs::write(folder.join(CONFIG), own + &options.lines()).map_err(machine("cannot write the server's config"))?;
        let log = File::options().create(true).append(true).open(folder.join(LOG));
        let log = log.map_err(machine("cannot open the server's log"))?;
        let errors = log.try_clone().map_err(machine("cannot open the server's log"))?;

        let process = Process::spawn(self.binary.path.as_os_str(), |command| {
            command.arg(CONFIG).current_dir(folder).stdin(Stdio::null()).stdout(log).stderr(errors);
        });
        let process = process.await.map_err(machine("cannot run the server"))?;
        {
            let mut state = self.state();
            state.port = port;
            state.process = Some(process);
        }

        match timeout(START, self.answered()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.start_error("it ended")),
            Err(_) => Err(self.start_error("it did not answer within 30 seconds")),
        }
    }

    /// Waits for the first answer; false when the server ends before it.
    async fn answered(&self) -> bool {
        while self.pid().is_some() {
            if let Ok(mut connection) = Connection::open(&self.socket).await
                && connection.command(&["PING"]).await.is_ok()
            {
                return true;
            }
            sleep(Duration::from_millis(2)).await;
        }
        false
    }

    fn start_error(&self, reason: &str) -> ServerError {
        self.kill();
        ServerError::Start { binary: Box::new(self.binary.clone()), reason: reason.into(), log: self.log() }
    }
}

#[cfg(test)]
mod tests;
