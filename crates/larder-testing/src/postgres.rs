//! Real PostgreSQL servers for tests, each with a cluster of its own on a Unix socket, that can be killed, stopped and restarted.
//!
//! As [`server`](crate::server) does for Redis: the server ends with its owner, and with the test process. `initdb` and `postgres` refuse to run as root; there they
//! run as the user `postgres`, which Debian's package makes, or else as `nobody`.
//!
//! # Limits
//!
//! Unix only. Nothing is synced to disk: a killed server comes back with what it had, a machine that loses power need not.

use crate::server::address;
use crate::server::process::Process;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashMap;
use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use thiserror::Error;
use tokio::time::{Instant, sleep};

/// Where Debian installs servers, one folder for each major version.
const PLACE: &str = "/usr/lib/postgresql";

/// The environment variable that names more of them by the folders of their programs, such as `/opt/pg17/bin:/opt/pg18/bin`.
const VARIABLE: &str = "LARDER_POSTGRES";

/// What the socket is named after.
const PORT: u16 = 5432;

/// How long a server may take to answer for the first time.
const START: Duration = Duration::from_secs(60);

/// The superuser of every cluster, and the name of its database.
pub const USER: &str = "larder";

/// Why a server failed.
#[derive(Debug, Error)]
pub enum PostgresError {
    /// This machine has no server.
    #[error(
        "no PostgreSQL server found: `cargo xtask test` installs one, or install it yourself (Debian: apt install postgresql), \
         or name the folder of its programs in LARDER_POSTGRES"
    )]
    NoServer,
    /// A folder that was found or named has no usable server.
    #[error("{path} has no PostgreSQL 15 or later: asked for its version, it said {said:?}; correct LARDER_POSTGRES", path = path.display())]
    NotAServer {
        /// The folder.
        path: PathBuf,
        /// What it printed, or why it could not be run.
        said: String,
    },
    /// A program that belongs to a server is missing beside it.
    #[error("{path} has a PostgreSQL server and no {missing}: add that program, or correct LARDER_POSTGRES", path = path.display())]
    Incomplete {
        /// The folder.
        path: PathBuf,
        /// The program.
        missing: &'static str,
    },
    /// The server did not start.
    #[error("{binaries} did not start: {reason}; its log:\n{log}")]
    Start {
        /// The server.
        binaries: PostgresBinaries,
        /// What went wrong.
        reason: String,
        /// All that it printed.
        log: String,
    },
    /// Something on this machine failed.
    #[error("{what}: {error}")]
    Machine {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: io::Error,
    },
}

pub(crate) fn machine(what: &'static str) -> impl FnOnce(io::Error) -> PostgresError {
    move |error| PostgresError::Machine { what, error }
}

/// The programs of one version; shown as `PostgreSQL 15.18 (/usr/lib/postgresql/15/bin)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresBinaries {
    /// The folder with `postgres` and `initdb`.
    pub folder: PathBuf,
    /// Major and minor.
    pub version: (u32, u32),
}

impl PostgresBinaries {
    /// Those in this folder.
    ///
    /// # Errors
    ///
    /// [`PostgresError::NotAServer`], [`PostgresError::Incomplete`].
    pub fn at(folder: impl Into<PathBuf>) -> Result<Self, PostgresError> {
        let folder = folder.into();
        let said = match Command::new(folder.join("postgres")).arg("--version").stdin(Stdio::null()).output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            Err(error) => return Err(PostgresError::NotAServer { path: folder, said: error.to_string() }),
        };
        let version = match parse(&said) {
            Some(version) if version.0 >= 15 => version,
            _ => return Err(PostgresError::NotAServer { path: folder, said }),
        };
        match ["initdb", "psql"].iter().find(|program| !folder.join(program).is_file()) {
            None => Ok(Self { folder, version }),
            Some(missing) => Err(PostgresError::Incomplete { path: folder, missing }),
        }
    }
}

impl fmt::Display for PostgresBinaries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.version;
        write!(f, "PostgreSQL {major}.{minor} ({})", self.folder.display())
    }
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian …)`; a release candidate has no minor version.
fn parse(said: &str) -> Option<(u32, u32)> {
    let version = said.strip_prefix("postgres (PostgreSQL) ")?.split_whitespace().next()?;
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some((digits(major)?, digits(minor).unwrap_or(0)))
}

/// Every version of this machine: those in `/usr/lib/postgresql/*/bin`, and those that `LARDER_POSTGRES=folder:folder` names.
///
/// # Errors
///
/// [`PostgresError::NoServer`] says how to get one; [`PostgresError::NotAServer`]: one was found or named, and cannot be used.
pub fn required() -> Result<Vec<PostgresBinaries>, PostgresError> {
    let versions = fs::read_dir(PLACE).into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin")).filter(|folder| folder.join("postgres").is_file());
    let named = env::var_os(VARIABLE).unwrap_or_default();
    let named = env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()).collect::<Vec<_>>();
    let mut all = Vec::new();
    for folder in found.chain(named) {
        let folder = folder.canonicalize().unwrap_or(folder);
        let binaries = PostgresBinaries::at(folder)?;
        if !all.contains(&binaries) {
            all.push(binaries);
        }
    }
    all.sort_by_key(|binaries| binaries.version);
    if all.is_empty() { Err(PostgresError::NoServer) } else { Ok(all) }
}

/// A running PostgreSQL server. When it is dropped, the server is killed, and everything that it has written is removed.
#[derive(Debug)]
pub struct PostgresServer {
    // The process comes before the folder, because it must be gone before its folder is.
    process: Mutex<Option<Process>>,
    folder: TempDir,
    binaries: PostgresBinaries,
    /// As whom it runs, where this process is root.
    user: Option<(u32, u32)>,
    /// What its socket is named after, and where it listens if it listens to TCP.
    port: u16,
    /// Lines of configuration.
    lines: Vec<String>,
}

impl PostgresServer {
    /// Makes a cluster, starts a server for it, and returns once that accepts connections. `lines` are added to its configuration, such as
    /// `max_prepared_transactions = 10`.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Start`], with the server's log.
    pub async fn start(binaries: &PostgresBinaries, lines: &[&str]) -> Result<Self, PostgresError> {
        let server = Self::prepare(binaries, PORT, lines)?;
        server.init()?;
        server.launch().await?;
        Ok(server)
    }

    /// The same, for a server that listens to a [`port`](Self::port) of 127.0.0.1 as well.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_on_tcp(binaries: &PostgresBinaries, lines: &[&str]) -> Result<Self, PostgresError> {
        let port = address::free_port().map_err(machine("cannot find a free port"))?;
        let server = Self::prepare(binaries, port, lines)?;
        server.init()?;
        server.launch().await?;
        Ok(server)
    }

    /// Copies the server's data (`pg_basebackup`), and starts a standby that follows it, with the same lines of configuration.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn standby(&self) -> Result<Self, PostgresError> {
        let server = self.copied()?;
        server.launch().await?;
        Ok(server)
    }

    /// Copies the server's data, as [`standby`](Self::standby) does. The standby is not running: [`restart`](Self::restart) starts it. Blocks the thread
    /// meanwhile, for seconds.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn copied(&self) -> Result<Self, PostgresError> {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        let server = Self::prepare(&self.binaries, PORT, &lines)?;
        let mut copy = Command::new(self.binaries.folder.join("pg_basebackup"));
        copy.arg("-D").arg(server.data()).arg("-d").arg(self.dsn()).args([
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
        ]);
        server.run_to_its_end(copy, "pg_basebackup")?;
        server.configure()?;
        Ok(server)
    }

    fn prepare(binaries: &PostgresBinaries, port: u16, lines: &[&str]) -> Result<Self, PostgresError> {
        let user = user().map_err(machine("cannot find a user for the server"))?;
        let folder = folder_of(user)?;
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        Ok(Self { process: Mutex::default(), folder, binaries: binaries.clone(), user, port, lines })
    }

    /// Kills the server (SIGKILL), and returns when it is gone. Its sessions end a moment later. To kill a dead server is fine.
    pub fn kill(&self) {
        let process = self.process().take();
        // Sessions that are stopped would never notice that their server is gone.
        let others = process.as_ref().and_then(|first| children(first.id()).ok()).unwrap_or_default();
        drop(process);
        others.into_iter().filter(|(_, state)| *state == 'T').for_each(|(pid, _)| signal(pid, Signal::KILL));
    }

    /// Kills the server with all its processes at one moment, as a machine ends that loses power: none of them does anything after another one has ended.
    /// Linux only.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Machine`]: the server is not running.
    pub fn kill_at_once(&self) -> Result<(), PostgresError> {
        self.stop()?;
        let first = self.process().as_ref().map(Process::id).ok_or_else(not_running);
        let others = first.and_then(children).map_err(machine("cannot find the server's processes"))?;
        others.into_iter().for_each(|(pid, _)| signal(pid, Signal::KILL));
        self.kill();
        Ok(())
    }

    /// Stops the server (SIGSTOP): first the process that starts the others, then all others. Returns when all have stopped. Clients can still
    /// connect to the socket, and get no answer. Linux only.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Machine`]: the server is not running.
    pub fn stop(&self) -> Result<(), PostgresError> {
        let process = self.process();
        let first = process.as_ref().ok_or_else(not_running).map_err(machine("cannot stop the server"))?;
        first.stop().map_err(machine("cannot stop the server"))?;
        loop {
            let others = children(first.id()).map_err(machine("cannot find the server's processes"))?;
            if others.iter().all(|(_, state)| matches!(state, 'T' | 'Z')) {
                return Ok(());
            }
            others.into_iter().for_each(|(pid, _)| signal(pid, Signal::STOP));
            std::thread::yield_now();
        }
    }

    /// Lets a stopped server continue (SIGCONT), with all its processes.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub fn cont(&self) -> Result<(), PostgresError> {
        let process = self.process();
        let first = process.as_ref().ok_or_else(not_running).map_err(machine("cannot let the server continue"))?;
        let others = children(first.id()).map_err(machine("cannot find the server's processes"))?;
        others.into_iter().for_each(|(pid, _)| signal(pid, Signal::CONT));
        first.cont().map_err(machine("cannot let the server continue"))
    }

    /// How much processor time each open session has used, by the number of its process. Linux only.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub fn session_cpu(&self) -> Result<HashMap<i32, Duration>, PostgresError> {
        let process = self.process();
        let first = process.as_ref().ok_or_else(not_running).map_err(machine("cannot look at the server"))?;
        let all = children(first.id()).map_err(machine("cannot find the server's processes"))?;
        let read = |pid: i32, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        // The title of a session names its client: `postgres: user database [local] idle`.
        let sessions =
            all.into_iter().filter(|(pid, _)| read(*pid, "cmdline").is_some_and(|title| title.contains("[local]")));
        let used =
            |pid: i32| Some((pid, Duration::from_nanos(read(pid, "schedstat")?.split(' ').next()?.parse().ok()?)));
        Ok(sessions.filter_map(|(pid, _)| used(pid)).collect())
    }

    /// Kills the server, if it runs, and starts it again. It recovers as after a crash.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn restart(&self) -> Result<(), PostgresError> {
        self.kill();
        self.launch().await
    }

    /// Writes a file into the folder of the server's data, which only the server may read: a certificate, a key, `pg_hba.conf`.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.data().join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        if let Some((uid, gid)) = self.user {
            chown(&path, Some(uid), Some(gid))?;
        }
        Ok(path)
    }

    /// Appends lines to the server's configuration, and has all of its files read again.
    ///
    /// # Errors
    ///
    /// As [`psql`](Self::psql).
    pub fn reload(&self, lines: &str) -> Result<(), String> {
        let path = self.data().join("postgresql.conf");
        let before = fs::read_to_string(path).map_err(|error| error.to_string())?;
        self.write("postgresql.conf", &format!("{before}{lines}\n")).map_err(|error| error.to_string())?;
        let loaded = || self.psql("SELECT pg_conf_load_time()");
        let before = loaded()?;
        self.psql("SELECT pg_reload_conf()")?;
        while loaded()? == before {}
        Ok(())
    }

    /// What the socket is named after, and for a server [on TCP](Self::start_on_tcp) its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the server's socket: the host of a connection to it.
    pub fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// What a client connects with: keys and values as libpq takes them.
    pub fn dsn(&self) -> String {
        let port = if self.port == PORT { String::new() } else { format!(" port={}", self.port) };
        format!("host={}{port} user={USER} dbname={USER}", self.socket().display())
    }

    /// The programs of this server.
    pub fn binaries(&self) -> &PostgresBinaries {
        &self.binaries
    }

    /// The number of the server's process. `None`: it is not running.
    pub fn pid(&self) -> Option<u32> {
        self.process().as_ref().filter(|process| !process.has_ended().unwrap_or(true)).map(Process::id)
    }

    /// Everything that the server has printed, over all its restarts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// Runs `psql` with this SQL, and answers what it prints: rows, columns parted by `|`.
    ///
    /// # Errors
    ///
    /// What `psql` says of an error.
    pub fn psql(&self, sql: &str) -> Result<String, String> {
        self.psql_at(self.port, sql)
    }

    /// The same, where the socket has the name of another port, because a test has renamed it.
    ///
    /// # Errors
    ///
    /// As [`psql`](Self::psql).
    pub fn psql_at(&self, port: u16, sql: &str) -> Result<String, String> {
        self.psql_on(&format!("{} port={port}", self.dsn()), sql)
    }

    fn psql_on(&self, dsn: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(self.binaries.folder.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", "-"]);
        let mut child = psql
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("psql cannot be run: {error}"))?;
        // By its standard input: an argument has room for 128 KiB. It reads all of that before it answers.
        let sent = child.stdin.take().map_or(Ok(()), |mut stdin| io::Write::write_all(&mut stdin, sql.as_bytes()));
        let output = child.wait_with_output().map_err(|error| format!("psql cannot be run: {error}"))?;
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match sent {
            Ok(()) if output.status.success() => Ok(told(&output.stdout)),
            _ => Err(told(&output.stderr)),
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn failed(&self, reason: impl Into<String>) -> PostgresError {
        PostgresError::Start { binaries: self.binaries.clone(), reason: reason.into(), log: self.log() }
    }

    fn init(&self) -> Result<(), PostgresError> {
        let mut initdb = Command::new(self.binaries.folder.join("initdb"));
        initdb.arg("-D").arg(self.data());
        initdb.args(["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]);
        self.run_to_its_end(initdb, "initdb")?;
        self.configure()
    }

    /// Runs a program of the server's as the user of the server.
    fn run_to_its_end(&self, mut program: Command, name: &str) -> Result<(), PostgresError> {
        program.current_dir("/").stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            program.uid(uid).gid(gid);
        }
        let output = program.output().map_err(machine("cannot run a program of the server"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(self.failed(format!("{name} failed: {}", String::from_utf8_lossy(&output.stderr))))
    }

    fn configure(&self) -> Result<(), PostgresError> {
        let addresses = if self.port == PORT { "" } else { "127.0.0.1" };
        // With mmap, what its processes share is in the server's folder. By default a part of it is in /dev/shm, and stays there when the server is killed.
        let own = format!(
            "listen_addresses = '{addresses}'\nport = {}\nunix_socket_directories = '{}'\nfsync = off\nfull_page_writes = off\n\
             dynamic_shared_memory_type = mmap\nshared_buffers = 32MB\nmax_connections = 100\nlog_line_prefix = '%m [%p] '\n{}\n",
            self.port,
            self.socket().display(),
            self.lines.join("\n")
        );
        let mut config = File::options()
            .append(true)
            .open(self.data().join("postgresql.conf"))
            .map_err(machine("cannot open the server's config"))?;
        io::Write::write_all(&mut config, own.as_bytes()).map_err(machine("cannot write the server's config"))
    }

    async fn launch(&self) -> Result<(), PostgresError> {
        let deadline = Instant::now() + START;
        loop {
            self.run().await?;
            while self.pid().is_some() {
                if self.answers() {
                    return Ok(());
                }
                if Instant::now() > deadline {
                    self.kill();
                    return Err(self.failed("it accepted no connection within a minute"));
                }
                sleep(Duration::from_millis(10)).await;
            }
            // Sessions of the server that was killed may still be ending.
            let ending = self.log().contains("pre-existing shared memory block") || self.log().contains("lock file");
            if !ending || Instant::now() > deadline {
                return Err(self.failed("it ended"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether it accepts connections. The database of the user's name is made when it does so for the first time.
    fn answers(&self) -> bool {
        if self.psql("SELECT 1").is_ok() {
            return true;
        }
        let maintenance = format!("{} dbname=postgres", self.dsn());
        self.psql_on(&maintenance, &format!("CREATE DATABASE {USER}")).is_ok()
    }

    async fn run(&self) -> Result<(), PostgresError> {
        let log =
            File::options().create(true).append(true).open(self.log_file()).map_err(machine("cannot open the log"))?;
        let errors = log.try_clone().map_err(machine("cannot open the log"))?;
        let program = self.binaries.folder.join("postgres");
        let process = Process::spawn_as(self.user, program.as_os_str(), |command| {
            command.arg("-D").arg(self.data()).current_dir("/").stdin(Stdio::null()).stdout(log).stderr(errors);
        });
        *self.process() = Some(process.await.map_err(machine("cannot run the server"))?);
        Ok(())
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
        free_shared_memory(self.folder.path());
    }
}

/// Frees the piece of shared memory by which a server recognizes itself, of a server in this folder that was killed: nobody else frees it, and a machine has
/// room for some thousands. A server that has shut down has freed it.
pub fn free_shared_memory(folder: &Path) {
    let Some(number) = shared_memory(folder) else { return };
    // Whoever has no path for programs has the program all the same.
    for program in ["ipcrm", "/usr/bin/ipcrm", "/bin/ipcrm"] {
        let mut ipcrm = Command::new(program);
        ipcrm.args(["-m", &number]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Without the program it stays.
        if ipcrm.status().is_ok() {
            return;
        }
    }
}

/// The number of that piece.
fn shared_memory(folder: &Path) -> Option<String> {
    let lines = fs::read_to_string(folder.join("data").join("postmaster.pid")).ok()?;
    // The seventh line is its key and its number.
    lines.lines().nth(6)?.split_whitespace().nth(1).map(str::to_owned)
}

fn not_running() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "it is not running")
}

/// A process that has ended meanwhile needs no signal.
fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// The processes that this one has started, with their states (T: stopped, Z: ended). Each has a process group of its own, so a signal to the group of the
/// first one does not reach them. Linux only.
fn children(parent: u32) -> io::Result<Vec<(i32, char)>> {
    // `pid (name) state ppid …`, where the name may have spaces and parentheses.
    let of_ours = |stat: String| {
        let (pid, rest) = (stat.split_once(' ')?.0.parse().ok()?, stat.rsplit_once(") ")?.1);
        let mut fields = rest.split(' ');
        let state = fields.next()?.chars().next()?;
        (fields.next()?.parse::<u32>().ok()? == parent).then_some((pid, state))
    };
    let stats = fs::read_dir("/proc")?.flatten().filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    Ok(stats.filter_map(of_ours).collect())
}

/// A temporary folder of the server's user, that everybody may enter.
pub(crate) fn folder_of(user: Option<(u32, u32)>) -> Result<TempDir, PostgresError> {
    let folder = address::folder().map_err(machine("cannot make a temporary folder"))?;
    if let Some((uid, gid)) = user {
        chown(folder.path(), Some(uid), Some(gid)).map_err(machine("cannot give the folder to the server's user"))?;
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).map_err(machine("cannot open the folder"))?;
    Ok(folder)
}

/// As whom a server runs, where this process is root.
pub(crate) fn user() -> io::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let of = |name: &str| {
        let line = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let mut fields = line.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let found = of("postgres").or_else(|| of("nobody"));
    found.map(Some).ok_or_else(|| io::Error::other("there is neither a user `postgres` nor `nobody`"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_is_dropped_leaves_no_shared_memory() -> Result<(), Box<dyn std::error::Error>> {
        let server = PostgresServer::start(&required()?.remove(0), &[]).await?;
        let number = shared_memory(server.socket()).ok_or("it has none")?;
        let there = || -> io::Result<bool> {
            let all = fs::read_to_string("/proc/sysvipc/shm")?;
            Ok(all.lines().any(|line| line.split_whitespace().nth(1) == Some(&number)))
        };
        assert!(there()?);
        // The rest of it is in files that go with the folder.
        let maps = fs::read_to_string(format!("/proc/{}/maps", server.pid().ok_or("it does not run")?))?;
        assert!(maps.contains("/pg_dynshmem/") && !maps.contains("/dev/shm/PostgreSQL"), "{maps}");
        drop(server);
        // It goes with the last process of the server, which ends by itself.
        let deadline = Instant::now() + START;
        while there()? {
            assert!(Instant::now() < deadline, "it is left");
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_server_that_is_dropped_while_it_is_stopped_leaves_no_process() -> Result<(), Box<dyn std::error::Error>>
    {
        let server = PostgresServer::start(&required()?.remove(0), &[]).await?;
        server.stop()?;
        let others = children(server.pid().ok_or("it does not run")?)?;
        assert!(!others.is_empty());
        drop(server);
        let is_left = |(pid, _): &(i32, char)| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
        };
        let deadline = Instant::now() + START;
        while others.iter().any(is_left) {
            assert!(Instant::now() < deadline, "processes are left");
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}
