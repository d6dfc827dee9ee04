//! Which servers this machine has: [`installed`] and [`required`].

use super::ServerError;
use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The names a server is installed under.
const NAMES: [&str; 2] = ["redis-server", "valkey-server"];

/// Where a server is looked for although it may not be on the `PATH`.
const PLACES: [&str; 2] = ["/usr/bin", "/usr/local/bin"];

/// Names more servers, such as `/opt/redis-8/redis-server:/opt/valkey-8/valkey-server`.
const VARIABLE: &str = "LARDER_SERVERS";

/// Who makes a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
}

/// A server program that [`Server::start`](super::Server::start) can run; shown as `Redis 7.0.15 (/usr/bin/redis-server)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerBinary {
    /// The program.
    pub path: PathBuf,
    /// What it says it is, whatever its file is called.
    pub flavour: Flavour,
    /// Major, minor and patch, so that `version >= (7, 4, 0)` reads as it should.
    pub version: (u32, u32, u32),
}

impl ServerBinary {
    /// The server at `path`, which is run once with `--version`.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotAServer`] when it cannot be run or says nothing that a Redis or Valkey server would.
    pub fn at(path: impl Into<PathBuf>) -> Result<ServerBinary, ServerError> {
        let path = path.into();
        let said = match Command::new(&path).arg("--version").stdin(Stdio::null()).output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            Err(error) => return Err(ServerError::NotAServer { path, said: error.to_string() }),
        };
        match parse(&said) {
            Some((flavour, version)) => Ok(ServerBinary { path, flavour, version }),
            None => Err(ServerError::NotAServer { path, said }),
        }
    }
}

impl fmt::Display for ServerBinary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.version;
        write!(f, "{:?} {major}.{minor}.{patch} ({})", self.flavour, self.path.display())
    }
}

/// Every server of this machine: `redis-server` and `valkey-server` on the `PATH`, in `/usr/bin` and `/usr/local/bin`, and
/// those that `LARDER_SERVERS=path:path` names. Each program is listed once, whatever links lead to it.
///
/// # Errors
///
/// [`ServerError::NotAServer`] for one that is found or named but cannot be used. It is not left out: a test run that quietly
/// covers one server less would look like one that covers all.
pub fn installed() -> Result<Vec<ServerBinary>, ServerError> {
    find(&env::var_os("PATH").unwrap_or_default(), &env::var_os(VARIABLE).unwrap_or_default())
}

/// As [`installed`], and at least one.
///
/// ```
/// for binary in larder_testing::server::required()? {
///     println!("testing against {binary}");
/// }
/// # Ok::<(), larder_testing::server::ServerError>(())
/// ```
///
/// # Errors
///
/// [`ServerError::NoServer`] says how to get one; otherwise as [`installed`].
pub fn required() -> Result<Vec<ServerBinary>, ServerError> {
    let servers = installed()?;
    if servers.is_empty() { Err(ServerError::NoServer) } else { Ok(servers) }
}

fn find(path_variable: &OsStr, named: &OsStr) -> Result<Vec<ServerBinary>, ServerError> {
    let folders = env::split_paths(path_variable).chain(PLACES.iter().map(PathBuf::from));
    let found = folders.flat_map(|folder| NAMES.map(|name| folder.join(name))).filter(|path| path.is_file());
    let named = env::split_paths(named).filter(|path| !path.as_os_str().is_empty());

    let (mut servers, mut seen) = (Vec::new(), Vec::new());
    for path in found.chain(named) {
        let identity = path.canonicalize().unwrap_or_else(|_| path.clone());
        if !seen.contains(&identity) {
            servers.push(ServerBinary::at(&path)?);
            seen.push(identity);
        }
    }
    Ok(servers)
}

/// Reads `Redis server v=7.0.15 sha=…` and `Valkey server v=8.0.1 sha=…`.
fn parse(said: &str) -> Option<(Flavour, (u32, u32, u32))> {
    let flavour = match said.split_whitespace().next()? {
        "Redis" => Flavour::Redis,
        "Valkey" | "Server" => Flavour::Valkey,
        _ => return None,
    };
    let version = said.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((flavour, (parts.next()??, parts.next()??, parts.next()??)))
}

/// Whether `program` is in one of the folders of the `PATH`.
pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path: &PathBuf| Path::is_file(path))
}
