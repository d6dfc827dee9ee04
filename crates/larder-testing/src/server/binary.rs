//! Which servers this machine has: [`installed`] and [`required`].

use super::ServerError;
use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The names a server is installed under.
const NAMES: [&str; 2] = ["redis-server", "valkey-server"];

/// Folders where servers are looked for, even if they are not on the `PATH`.
const PLACES: [&str; 2] = ["/usr/bin", "/usr/local/bin"];

/// The environment variable that names more servers, such as `/opt/redis-8/redis-server:/opt/valkey-8/valkey-server`.
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
    /// What the program says it is, whatever its file is called.
    pub flavour: Flavour,
    /// Major, minor and patch, so that `version >= (7, 4, 0)` compares correctly.
    pub version: (u32, u32, u32),
}

impl ServerBinary {
    /// The server at `path`. The program is run once with `--version`.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotAServer`]: the program cannot be run, or does not answer as a Redis or Valkey server does.
    pub fn at(path: impl Into<PathBuf>) -> Result<ServerBinary, ServerError> {
        // A server runs in a folder of its own, from where a relative path would lead elsewhere.
        let path = path.into();
        let path = std::path::absolute(&path).unwrap_or(path);
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
/// [`ServerError::NotAServer`]: a server was found or named, but cannot be used. Such a server is not left out in silence: the tests would
/// then seem to cover all servers, and would not.
pub fn installed() -> Result<Vec<ServerBinary>, ServerError> {
    find(&env::var_os("PATH").unwrap_or_default(), &env::var_os(VARIABLE).unwrap_or_default())
}

/// As [`installed`], but it is an error if there is no server.
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

/// Reads `Redis server v=7.0.15 sha=…`, `Valkey server v=8.0.1 sha=…` and, of Valkey 7, `Server v=7.2.5 sha=…`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn program(folder: &Path, name: &str, says: &str) -> std::io::Result<PathBuf> {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\necho '{says}'\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    #[test]
    fn versions_are_read() {
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=0";
        assert_eq!(parse(redis), Some((Flavour::Redis, (7, 0, 15))));
        assert_eq!(parse("Valkey server v=8.0.1 sha=0"), Some((Flavour::Valkey, (8, 0, 1))));
        assert_eq!(parse("Server v=7.2.5 sha=0"), Some((Flavour::Valkey, (7, 2, 5))));
        assert_eq!(parse("postgres (PostgreSQL) 17.2"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_program_is_listed_once_and_is_what_it_says_it_is() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        // The compatibility packages of Valkey install such a link.
        let valkey = program(folder.path(), "valkey-server", "Valkey server v=8.0.1 sha=0")?;
        symlink(&valkey, folder.path().join("redis-server"))?;

        let found = find(folder.path().as_os_str(), valkey.as_os_str())?;
        let here: Vec<_> = found.iter().filter(|server| server.path.starts_with(folder.path())).collect();
        assert_eq!(here.len(), 1, "{found:?}");
        assert_eq!(here[0].flavour, Flavour::Valkey);
        Ok(())
    }

    #[test]
    fn a_named_server_that_is_missing_or_is_none_is_an_error() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let other = program(folder.path(), "other", "hello")?;
        for named in [folder.path().join("missing"), other] {
            let error = find(OsStr::new(""), named.as_os_str());
            assert!(matches!(&error, Err(ServerError::NotAServer { path, .. }) if *path == named), "{error:?}");
        }
        Ok(())
    }
}
