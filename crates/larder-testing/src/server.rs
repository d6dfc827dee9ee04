//! Real servers for tests: Redis and Valkey, each in a folder of its own, that can be stopped, killed and restarted.
//!
//! A simulated server behaves as its author believes servers behave. But the faults of caches come from what nobody believed. So a test
//! starts the real program, and breaks it with signals and commands. For answers that no real server can be made to give there is
//! [`ScriptedServer`]; for faults on the way to a server there is [`crate::proxy`].
//!
//! A server listens on a Unix socket, and on a port of 127.0.0.1 if [asked to](ServerOptions::tcp). The test talks to the server by
//! [`Server::command`], beside the client under test. The server ends with its owner, also when a test panics. If the test process itself
//! is killed, Linux ends the server, provided that `setpriv` is installed. On other systems the server is left behind.
//!
//! # Limits
//!
//! Unix only. One server, not a cluster; lines of configuration can make the server part of a cluster. A master, a replica and their Sentinels
//! are [`Watched`]. The user `larder-control` on the
//! server belongs to this module, so that no password and no ACL of a test locks the test out. For that reason the server refuses an
//! `aclfile` line: use `user` lines instead.

pub(crate) mod address;
mod binary;
mod connection;
mod endpoint;
mod error;
mod options;
pub(crate) mod process;
mod resp;
mod scripted;
mod watched;

pub(crate) use endpoint::{Endpoint, Stream};

pub use binary::{Flavour, ServerBinary, installed, required};
pub use connection::Connection;
pub use error::ServerError;
pub use options::ServerOptions;
use options::TLS_FILES;
pub use resp::Reply;
pub use scripted::ScriptedServer;
pub use watched::Watched;

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

/// How long a server may take to answer for the first time, or to save its data and end.
const START: Duration = Duration::from_secs(30);

/// The user as which this module talks to every server.
const CONTROL: &str = "larder-control";

const CONFIG: &str = "server.conf";
const LOG: &str = "server.log";
const SOCKET: &str = "redis.sock";

/// A running Redis or Valkey server. When it is dropped, the server is killed, and everything that it has written is removed.
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
    /// The port stays the same over restarts, also over a restart without TCP.
    port: Option<u16>,
    /// The port for TLS, in the same way.
    tls_port: Option<u16>,
}

impl Server {
    /// Starts a server and returns once the server answers, even if the answer is `LOADING`.
    ///
    /// # Errors
    ///
    /// [`ServerError::Start`], with the server's log: the server ended, or did not answer within 30 seconds.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the server is killed.
    pub async fn start(binary: &ServerBinary, options: ServerOptions) -> Result<Server, ServerError> {
        let folder = address::folder().map_err(machine("cannot make a temporary folder"))?;
        let server = Server {
            socket: folder.path().join(SOCKET),
            folder,
            binary: binary.clone(),
            password: std::iter::repeat_with(fastrand::alphanumeric).take(32).collect(),
            state: Mutex::new(State { process: None, options, port: None, tls_port: None }),
        };
        server.launch().await?;
        Ok(server)
    }

    /// Ends the server, if it runs, and starts it again with the same options, on the same socket and port. A
    /// [persistent](ServerOptions::persistent) server that runs saves its data first, and so has its data again. Any other server comes
    /// back with the data that a test has told it to save, if any.
    ///
    /// # Errors
    ///
    /// As [`Server::start`]; for a persistent server also as [`Server::shutdown_save`].
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the server may be running or not.
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

    /// Stops the server (SIGSTOP) and returns when the server has stopped. Connections stay open, and the system accepts new ones, but
    /// the server answers nothing until [`Server::cont`].
    ///
    /// # Errors
    ///
    /// [`ServerError::Down`]: the server is not running.
    pub fn stop(&self) -> Result<(), ServerError> {
        self.running(|process| process.stop().map_err(machine("cannot stop the server")))
    }

    /// Lets a stopped server continue (SIGCONT). The server then answers everything that it was sent meanwhile.
    ///
    /// # Errors
    ///
    /// [`ServerError::Down`]: the server is not running.
    pub fn cont(&self) -> Result<(), ServerError> {
        self.running(|process| process.cont().map_err(machine("cannot let the server continue")))
    }

    /// Kills the server (SIGKILL), stopped or not, and returns when the server is gone. Data that the server did not save is lost. To kill
    /// a dead server is fine.
    pub fn kill(&self) {
        let process = self.state().process.take();
        drop(process);
    }

    /// Tells the server to save its data and end, and returns when the server is gone.
    ///
    /// # Errors
    ///
    /// [`ServerError::Refused`]: the server cannot save. [`ServerError::NoAnswer`]: the server did not end within 30 seconds.
    pub async fn shutdown_save(&self) -> Result<(), ServerError> {
        let command = ["SHUTDOWN", "SAVE"];
        let mut connection = self.connect().await?;
        match timeout(START, connection.exchange(&command)).await {
            Err(_) => return Err(no_answer(&command)(ErrorKind::TimedOut.into())),
            Ok(Ok(reply)) => return Err(ServerError::Refused { command: "SHUTDOWN".into(), reply }),
            // The server closes the connection shortly before it ends.
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

    /// The number of the server's process. `None`: the server is not running.
    pub fn pid(&self) -> Option<u32> {
        self.running(|process| Ok(process.id())).ok()
    }

    /// The program of this server.
    pub fn binary(&self) -> &ServerBinary {
        &self.binary
    }

    /// The Unix socket that the server listens on, the same for its whole life.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The port of 127.0.0.1 that the server listens on, if it was [asked to](ServerOptions::tcp). The same for its whole life.
    pub fn port(&self) -> Option<u16> {
        let state = self.state();
        state.port.filter(|_| state.options.tcp)
    }

    /// The port of 127.0.0.1 that the server listens on with TLS, if it was [asked to](ServerOptions::tls). The same for its whole life.
    pub fn tls_port(&self) -> Option<u16> {
        let state = self.state();
        state.tls_port.filter(|_| state.options.tls.is_some())
    }

    /// Gives a server that [has TLS](ServerOptions::tls) another certificate, key and authority, for connections from now on, also after a restart. All are
    /// in PEM format.
    ///
    /// # Errors
    ///
    /// As [`Server::command`], and [`ServerError::Refused`].
    pub async fn renew_tls(&self, certificate: &str, key: &str, authority: &str) -> Result<(), ServerError> {
        let texts = [certificate, key, authority].map(str::to_owned);
        self.write_tls(&texts)?;
        self.state().options.tls = Some(texts);
        let [certificate, key, authority] = TLS_FILES;
        let command =
            ["CONFIG", "SET", "tls-cert-file", certificate, "tls-key-file", key, "tls-ca-cert-file", authority];
        self.accepted(&command).await.map(drop)
    }

    fn write_tls(&self, texts: &[String; 3]) -> Result<(), ServerError> {
        for (file, text) in TLS_FILES.iter().zip(texts) {
            fs::write(self.folder.path().join(file), text).map_err(machine("cannot write the server's certificate"))?;
        }
        Ok(())
    }

    /// The server's address for a client: `redis://127.0.0.1:port` if the server listens on a port, else `redis+unix:///path`.
    pub fn url(&self) -> String {
        match self.port() {
            Some(port) => format!("redis://127.0.0.1:{port}"),
            None => format!("redis+unix://{}", self.socket.display()),
        }
    }

    /// Everything that the server has printed, over all its restarts.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.path().join(LOG)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A connection with every right, whatever passwords and ACLs the test has set.
    ///
    /// # Errors
    ///
    /// [`ServerError::NoAnswer`]: the server did not accept the connection within 5 seconds.
    pub async fn connect(&self) -> Result<Connection, ServerError> {
        let mut connection = Connection::open(&self.socket).await?;
        connection.accepted(&["AUTH", CONTROL, &self.password]).await?;
        Ok(connection)
    }

    /// Sends one command, on a connection of its own (in database 0), and returns the answer, which may be an error.
    ///
    /// # Errors
    ///
    /// [`ServerError::NoAnswer`]: there was no answer within 5 seconds, for example because the server is stopped.
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

    /// Closes the connections of all clients but its own, and returns how many connections were closed. Replicas stay connected.
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

    /// The processor time that the server's process has used since it started, without the time of its children.
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
        // Each change of the state is a single assignment. So a test that panicked has left nothing half done.
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
            let known = {
                let state = self.state();
                state.port.or(state.tls_port)
            };
            let Err(error) = self.launch_once().await else { return Ok(()) };
            // Another process may have taken the port between its choice and the server's start. The log shows all attempts, so it
            // also bounds their number.
            let taken = self.log().matches("Address already in use").count();
            if known.is_some() || taken == 0 || taken > 10 {
                return Err(error);
            }
            self.state().port = None;
            self.state().tls_port = None;
        }
    }

    async fn launch_once(&self) -> Result<(), ServerError> {
        let (options, mut port, mut tls_port) = {
            let state = self.state();
            (state.options.clone(), state.port, state.tls_port)
        };
        let known = port.or(tls_port).is_some();
        if options.tcp && port.is_none() {
            port = Some(address::free_port().map_err(machine("cannot choose a port"))?);
        }
        if let Some(texts) = &options.tls {
            if tls_port.is_none() {
                tls_port = Some(address::free_port().map_err(machine("cannot choose a port"))?);
            }
            self.write_tls(texts)?;
        }
        let tls =
            tls_port.filter(|_| options.tls.is_some()).map(|port| format!("tls-port {port}\n")).unwrap_or_default();
        // Paths are relative: absolute paths would have to be quoted.
        let own = format!(
            "daemonize no\nbind 127.0.0.1\nport {port}\nunixsocket {SOCKET}\nunixsocketperm 700\ndir .\nappendonly no\n\
             enable-debug-command local\nuser {CONTROL} on >{password} ~* &* +@all\n",
            port = port.filter(|_| options.tcp).unwrap_or_default(),
            password = self.password,
        );
        let folder = self.folder.path();
        // A Sentinel writes there what it finds out.
        if !(options.sentinel && known && folder.join(CONFIG).exists()) {
            fs::write(folder.join(CONFIG), own + &tls + &options.lines())
                .map_err(machine("cannot write the server's config"))?;
        }
        let log = File::options().create(true).append(true).open(folder.join(LOG));
        let log = log.map_err(machine("cannot open the server's log"))?;
        let errors = log.try_clone().map_err(machine("cannot open the server's log"))?;

        let process = Process::spawn(self.binary.path.as_os_str(), |command| {
            command.arg(CONFIG).current_dir(folder).stdin(Stdio::null()).stdout(log).stderr(errors);
            if options.sentinel {
                command.arg("--sentinel");
            }
        });
        let process = process.await.map_err(machine("cannot run the server"))?;
        {
            let mut state = self.state();
            state.port = port;
            state.tls_port = tls_port;
            state.process = Some(process);
        }

        match timeout(START, self.answered()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.start_error("it ended")),
            Err(_) => Err(self.start_error("it did not answer within 30 seconds")),
        }
    }

    /// Waits for the first answer. False: the server ended without an answer.
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
