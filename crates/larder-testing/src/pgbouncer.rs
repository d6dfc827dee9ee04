//! A real PgBouncer in transaction mode in front of a [`PostgresServer`], on a Unix socket, that can be killed and restarted.
//!
//! It refuses to run as root, and runs as the server's user there.

use crate::postgres::{PostgresError, PostgresServer, USER, folder_of, machine, user};
use crate::server::process::Process;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// What the socket is named after.
const PORT: u16 = 6432;

/// How long the pooler may take to accept a connection.
const START: Duration = Duration::from_secs(60);

/// Debian installs it where only the administrator looks for programs.
const PROGRAMS: [&str; 3] = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];

/// A running PgBouncer. When it is dropped, it is killed.
#[derive(Debug)]
pub struct PgBouncer {
    process: Mutex<Option<Process>>,
    folder: TempDir,
}

impl PgBouncer {
    /// Starts a pooler in transaction mode for every database of the server.
    ///
    /// # Errors
    ///
    /// This machine has no `pgbouncer` (Debian: apt install pgbouncer), or it did not start.
    pub async fn start(server: &PostgresServer) -> Result<Self, PostgresError> {
        let folder = folder_of(user().map_err(machine("cannot find a user for the pooler"))?)?;
        let users = format!("\"{USER}\" \"\"\n");
        fs::write(folder.path().join("users"), users).map_err(machine("cannot write the pooler's users"))?;
        let pooler = Self { process: Mutex::default(), folder };
        pooler.lead_to(server)?;
        pooler.launch().await?;
        Ok(pooler)
    }

    /// Leads to another server from the next start on, as an administrator configures it after a failover.
    ///
    /// # Errors
    ///
    /// The configuration cannot be written.
    pub fn lead_to(&self, server: &PostgresServer) -> Result<(), PostgresError> {
        let place = self.folder.path().display();
        let config = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr =\nlisten_port = {PORT}\nunix_socket_dir = {place}\n\
             auth_type = trust\nauth_file = {place}/users\npool_mode = transaction\ndefault_pool_size = 10\n\
             max_client_conn = 200\nserver_login_retry = 0\n",
            server.socket().display(),
            server.port(),
        );
        fs::write(self.folder.path().join("config"), config).map_err(machine("cannot write the pooler's config"))
    }

    /// The number of the pooler's process. `None`: it is not running.
    pub fn pid(&self) -> Option<u32> {
        self.process().as_ref().filter(|process| !process.has_ended().unwrap_or(true)).map(Process::id)
    }

    /// Kills the pooler. Its connections end.
    pub fn kill(&self) {
        let process = self.process().take();
        drop(process);
        let _ = fs::remove_file(self.socket_file());
    }

    /// Kills the pooler, if it runs, and starts it again.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn restart(&self) -> Result<(), PostgresError> {
        self.kill();
        self.launch().await
    }

    /// What a client connects with: keys and values as libpq takes them.
    pub fn dsn(&self) -> String {
        format!("host={} port={PORT} user={USER} dbname={USER}", self.folder.path().display())
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file that clients connect to.
    pub fn socket_file(&self) -> PathBuf {
        self.folder.path().join(format!(".s.PGSQL.{PORT}"))
    }

    async fn launch(&self) -> Result<(), PostgresError> {
        let Some(program) = PROGRAMS.iter().map(Path::new).find(|path| path.is_file()) else {
            let text = "`cargo xtask test` installs it, or install it yourself (Debian: apt install pgbouncer)";
            return Err(machine("no pgbouncer found")(std::io::Error::other(text)));
        };
        let log_file = self.folder.path().join("log");
        let open = || File::options().create(true).append(true).open(&log_file);
        let log = open().map_err(machine("cannot open the pooler's log"))?;
        let errors = open().map_err(machine("cannot open the pooler's log"))?;
        let user = user().map_err(machine("cannot find a user for the pooler"))?;
        let process = Process::spawn_as(user, program.as_os_str(), |command| {
            command.arg(self.folder.path().join("config")).current_dir("/");
            command.stdin(Stdio::null()).stdout(log).stderr(errors);
        });
        let process = process.await.map_err(machine("cannot run pgbouncer"))?;
        let deadline = Instant::now() + START;
        while UnixStream::connect(self.socket_file()).is_err() {
            if process.has_ended().unwrap_or(true) || Instant::now() > deadline {
                let log = fs::read_to_string(&log_file).unwrap_or_default();
                return Err(machine("pgbouncer did not start")(std::io::Error::other(log)));
            }
            sleep(Duration::from_millis(5)).await;
        }
        *self.process() = Some(process);
        Ok(())
    }
}
