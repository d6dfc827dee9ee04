//! What the tests need and cargo does not bring: a server and a C compiler. If one is missing, it is installed. If that cannot be done, the
//! message says what to install.

use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The script that installs packages. It leaves nothing behind but the packages.
const INSTALL: &str = include_str!("install.sh");

/// A program that must be there.
struct Need {
    what: &'static str,
    /// Names of the program. Any one of them is enough.
    programs: &'static [&'static str],
    /// Folders where the program is looked for, beside those on the `PATH`.
    folders: &'static [&'static str],
    /// An environment variable that names programs by their path, or one program.
    variable: &'static str,
    packages: &'static [&'static str],
}

/// A server. It is looked for in the same places as `larder_testing::server` looks.
const SERVER: Need = Need {
    what: "a Redis or Valkey server",
    programs: &["redis-server", "valkey-server"],
    folders: &["/usr/bin", "/usr/local/bin"],
    variable: "LARDER_SERVERS",
    packages: &["redis-server"],
};

/// A PostgreSQL server. Its programs are in a folder for each version, as `larder_testing::postgres` looks for them.
const POSTGRES: Need = Need {
    what: "a PostgreSQL server",
    programs: &["postgres"],
    folders: &[
        "/usr/lib/postgresql/15/bin",
        "/usr/lib/postgresql/16/bin",
        "/usr/lib/postgresql/17/bin",
        "/usr/lib/postgresql/18/bin",
    ],
    variable: "LARDER_POSTGRES",
    packages: &["postgresql"],
};

/// A pooler in front of PostgreSQL. Debian installs it beside the administrator's programs, as `larder_testing::pgbouncer` looks for it.
const POOLER: Need = Need {
    what: "PgBouncer",
    programs: &["pgbouncer"],
    folders: &["/usr/sbin", "/usr/bin", "/usr/local/bin"],
    variable: "",
    packages: &["pgbouncer"],
};

/// A C compiler, because SQLite is compiled from source.
const COMPILER: Need = Need {
    what: "a C compiler",
    programs: &["cc", "gcc", "clang"],
    folders: &[],
    variable: "CC",
    packages: &["gcc", "libc6-dev"],
};

/// Counts a server's instructions, for a test and for the benchmarks.
const CALLGRIND: Need = Need {
    what: "callgrind",
    programs: &["callgrind_control"],
    folders: &["/usr/bin", "/usr/local/bin"],
    variable: "",
    packages: &["valgrind"],
};

/// Installs what is missing.
pub(crate) fn provide() -> Result<(), String> {
    let mut missing = Vec::new();
    for need in [SERVER, POSTGRES, POOLER, COMPILER, CALLGRIND] {
        match need.found(&env::var_os("PATH").unwrap_or_default(), &env::var_os(need.variable).unwrap_or_default()) {
            Some(path) => eprintln!("{}: {}", need.what, path.display()),
            None => missing.push(need),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let wanted: Vec<_> = missing.iter().map(Need::wanted).collect();
    let Some(shell) = root_shell() else {
        return Err(format!("missing, and cannot be installed from here: {}", wanted.join("; ")));
    };
    let packages: Vec<_> = missing.iter().flat_map(|need| need.packages).copied().collect();
    eprintln!("missing: {}", wanted.join("; "));
    eprintln!(
        "installing the Debian packages {} with apt-get; the services they bring are neither started nor left enabled",
        packages.join(" ")
    );
    install(shell, &packages)?;
    match missing.iter().find(|need| need.found(&env::var_os("PATH").unwrap_or_default(), &"".into()).is_none()) {
        None => Ok(()),
        Some(need) => Err(format!("installed, and still missing: {}", need.wanted())),
    }
}

impl Need {
    fn found(&self, path: &std::ffi::OsString, named: &std::ffi::OsString) -> Option<PathBuf> {
        let folders: Vec<_> = env::split_paths(path).chain(self.folders.iter().map(PathBuf::from)).collect();
        let in_folders = |name: &PathBuf| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        // A variable may name the folder of the programs.
        let programs = |name: PathBuf| {
            self.programs.iter().map(|program| name.join(program)).chain([name.clone()]).collect::<Vec<_>>()
        };
        // An absolute path is found, too: joined to a folder, it stays what it was.
        let named = env::split_paths(named).filter(|name| !name.as_os_str().is_empty());
        named.flat_map(programs).chain(self.programs.iter().map(PathBuf::from)).find_map(|name| in_folders(&name))
    }

    fn wanted(&self) -> String {
        let programs = self.programs.join(" or ");
        let named = if self.variable.is_empty() { String::new() } else { format!(", or named by {}", self.variable) };
        format!("{}: {programs} on the PATH{named}", self.what)
    }
}

/// A shell that runs as root, on a machine with apt-get. `None`: there is none, or it would need a password.
fn root_shell() -> Option<Command> {
    let says_yes = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        output.ok().filter(|output| output.status.success()).map(|output| output.stdout)
    };
    says_yes("apt-get", &["--version"])?;
    if says_yes("id", &["-u"])?.trim_ascii() == b"0" {
        return Some(Command::new("sh"));
    }
    says_yes("sudo", &["-n", "true"])?;
    let mut shell = Command::new("sudo");
    shell.args(["-n", "sh"]);
    Some(shell)
}

fn install(mut shell: Command, packages: &[&str]) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("the installation could not be run: {error}");
    // The shell reads the script from its standard input. The programs in the script must not read from there.
    let script = format!("main() {{\n{INSTALL}\n}}\nmain \"$@\" </dev/null\n");
    let mut child = shell.args(["-s", "--"]).args(packages).stdin(Stdio::piped()).spawn().map_err(failed)?;
    let Some(mut input) = child.stdin.take() else { return Err("the installation has no standard input".to_owned()) };
    input.write_all(script.as_bytes()).map_err(failed)?;
    drop(input);
    let status = child.wait().map_err(failed)?;
    if status.success() { Ok(()) } else { Err("the installation failed; apt-get has said why above".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_server_is_found_on_the_path_or_by_its_name_and_a_name_that_leads_nowhere_is_none() {
        let folder = env::temp_dir().join(format!("larder-xtask-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let need = Need { folders: &[], ..SERVER };
        let (path, nothing) = (folder.clone().into_os_string(), std::ffi::OsString::new());

        assert_eq!(need.found(&path, &nothing), None);
        let server = folder.join("valkey-server");
        fs::write(&server, "").unwrap();
        assert_eq!(need.found(&path, &nothing), Some(server.clone()));
        assert_eq!(need.found(&nothing, &server.clone().into_os_string()), Some(server));
        assert_eq!(need.found(&nothing, &folder.join("missing").into_os_string()), None);
        fs::remove_dir_all(&folder).unwrap();
    }
}
