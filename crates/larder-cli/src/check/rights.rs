//! Tests whether larder has the rights that it needs on the server, by sending its commands under the configured prefix.
//!
//! A user's rights are commands and key patterns. A managed server may forbid more than they say. So each command is sent once, directly
//! or within a script, and each of larder's own scripts is run. The keys belong to no cache, expire by themselves, and are removed at the end.

use super::finding::{Finding, Level};
use super::server::said;
use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect::{TriedScript, losses, try_scripts};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, ServerErrorKind};

/// The commands that larder's scripts call.
const IN_SCRIPTS: [&str; 12] = [
    "BITFIELD", "EXISTS", "GET", "GETRANGE", "MGET", "PERSIST", "PEXPIRE", "RENAME", "SET", "SETRANGE", "TIME",
    "UNLINK",
];

/// The commands that larder sends. It can do without INFO and CLIENT SETNAME.
const SENT: [&str; 11] =
    ["EVAL", "EVALSHA", "GET", "GETRANGE", "MGET", "PING", "SCAN", "SELECT", "SET", "TIME", "UNLINK"];

/// The command that larder sends in strict mode, too.
const WAIT: &str = "WAIT";

/// Calls what larder's scripts call, with the same flags, so that it runs even if memory is full. Returns the calls that were refused.
const PROBE: &str = "#!lua flags=allow-oom
local refused = {}
local function try(...)
  local said = redis.pcall(...)
  if type(said) == 'table' and said.err then refused[#refused + 1] = (...) .. ' ' .. said.err end
end
local key, other = KEYS[1], KEYS[2]
try('SET', key, '12345678', 'PX', 10000)
try('GET', key)
try('MGET', key, other)
try('GETRANGE', key, 0, 3)
try('SETRANGE', key, 0, 'x')
try('BITFIELD', key, 'INCRBY', 'i64', '#0', 1)
try('TIME')
try('EXISTS', key)
try('PERSIST', key)
try('PEXPIRE', key, 10000)
try('RENAME', key, other)
try('UNLINK', other)
return refused
";

/// Reads a key that is not among KEYS. Larder's scripts do so: they learn the names of objects from index keys.
const UNDECLARED: &str = "#!lua flags=allow-oom
return redis.call('GET', ARGV[1])
";

/// The result of the test.
pub(super) struct Rights {
    pub(super) findings: Vec<Finding>,
    /// Whether the server refuses writes because it is a replica.
    pub(super) read_only: bool,
}

/// What an error says about a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// The right is missing.
    Missing,
    /// Nothing: the server is out of memory, or takes no writes.
    Full,
    /// Nothing: the server is a replica.
    ReadOnly,
    /// Nothing: the error is not known here.
    Other,
}

/// Judges the text of an error, its code first.
fn judge(text: &str) -> Said {
    let code = text.split(' ').next().unwrap_or_default();
    // Some servers give no code of its own to a command that is forbidden in a script, or that was renamed.
    let missing = ["ACL failure in script", "The user executing the script can't"];
    match code {
        "NOPERM" | "NOAUTH" | "DENIED" => Said::Missing,
        "OOM" | "MISCONF" | "NOREPLICAS" => Said::Full,
        "READONLY" => Said::ReadOnly,
        _ if is_unknown(text) || missing.iter().any(|words| text.contains(words)) => Said::Missing,
        _ => Said::Other,
    }
}

/// How servers name a command that they do not know: it is disabled or renamed there.
const UNKNOWN: [&str; 3] = ["nknown command", "Unknown Redis command", "nknown Redis"];

fn is_unknown(text: &str) -> bool {
    UNKNOWN.iter().any(|words| text.contains(words))
}

fn let_know(commands: &[&str]) -> String {
    let mut commands = commands.to_vec();
    commands.sort_unstable();
    commands.dedup();
    format!(
        "these commands are disabled or renamed there: remove `rename-command` for {}, or ask the service",
        commands.join(", ")
    )
}

/// The refused commands, by what their errors say.
#[derive(Default)]
struct Refusals {
    missing: Vec<String>,
    other: Vec<String>,
    /// What the server says to a script that uses a key which is not declared.
    undeclared: Option<String>,
    full: bool,
    read_only: bool,
}

impl Refusals {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.other.is_empty() && !self.full && !self.read_only
    }

    fn note(&mut self, command: &str, text: &str) {
        match judge(text) {
            Said::Missing => self.missing.push(format!("{command}: {text}")),
            Said::Full => self.full = true,
            Said::ReadOnly => self.read_only = true,
            Said::Other => self.other.push(format!("{command}: {text}")),
        }
    }
}

/// Tests all commands, and removes the keys.
///
/// With a hash tag, the keys are in its slot.
pub(super) async fn try_out(
    connection: &mut MultiplexedConnection,
    config: &RedisOptions,
    tag: Option<&str>,
) -> Rights {
    // No cache can have this name: `+` is not allowed in names.
    let braced = tag.map(|tag| format!("{{{tag}}}")).unwrap_or_default();
    let base = format!("{}:larder+check{braced}:{:08x}", config.prefix, fastrand::u32(..));
    let (key, other) = (format!("{base}:a"), format!("{base}:b"));
    let mut refusals = Refusals::default();

    for command in sent(config, &base, &key) {
        if let Err(error) = command.exec_async(connection).await {
            refusals.note(&name(&command), &said(&error));
        }
    }
    // If the server does not know a script, it must answer NOSCRIPT. Only then larder sends the script's code.
    let mut by_hash = redis::cmd("EVALSHA");
    by_hash.arg("0000000000000000000000000000000000000000").arg(0);
    match by_hash.exec_async(connection).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {}
        Err(error) => refusals.note("EVALSHA", &said(&error)),
        Ok(()) => refusals.other.push("EVALSHA: a script that nobody has sent was run".to_owned()),
    }
    let mut by_code = redis::cmd("EVAL");
    by_code.arg(PROBE).arg(2).arg(&key).arg(&other);
    match by_code.query_async::<Vec<String>>(connection).await {
        Ok(in_script) => {
            for refused in in_script {
                let (command, text) = refused.split_once(' ').unwrap_or((&refused, ""));
                refusals.note(&format!("{command} in a script"), text);
            }
        }
        Err(error) => refusals.note("EVAL", &said(&error)),
    }
    // Where anything else is refused, this would say nothing about the key.
    if refusals.is_empty() {
        let mut found = redis::cmd("EVAL");
        found.arg(UNDECLARED).arg(1).arg(&key).arg(format!("{base}:c"));
        let refused = found.exec_async(connection).await.err();
        refusals.undeclared = refused.map(|error| said(&error));
    }
    let mut unlink = redis::cmd("UNLINK");
    if let Err(error) = unlink.arg(&[key, other]).exec_async(connection).await {
        refusals.note("UNLINK", &said(&error));
    }
    let mut findings = findings(&refusals, config);
    // A server that takes no writes runs hardly any script.
    if !(refusals.full || refusals.read_only) {
        let explained = findings.iter().any(|finding| finding.level == Level::Problem);
        match try_scripts(config, tag).await {
            Ok(tried) => findings.push(scripts(&tried, explained, config)),
            // Then nothing works, and what is missing is told already.
            Err(_) if explained => {}
            Err(error) => findings.push(Finding::problem(
                SCRIPTS,
                format!("larder's scripts could not be tried: {error}"),
                "find out what this error means, and check again",
            )),
        }
    }
    Rights { read_only: refusals.read_only, findings }
}

const SCRIPTS: &str = "scripts";

/// Which of larder's scripts do not run, and what that costs. `explained`: why they do not has been told already.
fn scripts(tried: &[TriedScript], explained: bool, config: &RedisOptions) -> Finding {
    let mut failed = Vec::new();
    for TriedScript { script, cost, trouble, .. } in tried {
        match trouble {
            None => {}
            Some(_) if explained => failed.push(format!("{script}: {cost}")),
            Some(trouble) => failed.push(format!("{script} ({trouble}): {cost}")),
        }
    }
    let prefix = &config.prefix;
    if failed.is_empty() {
        let ways = tried.len();
        return Finding::ok(
            SCRIPTS,
            format!("each of larder's scripts ran, in {ways} ways, on keys under {prefix}:larder+check"),
        );
    }
    let (fail, all) = (failed.len(), tried.len());
    let text = format!("of {all} ways to run larder's scripts, {fail} fail. {}", failed.join("; "));
    match explained {
        true => Finding::note(SCRIPTS, text),
        false => Finding::problem(SCRIPTS, text, format!("{}, or ask the service", grant(config))),
    }
}

fn findings(refusals: &Refusals, config: &RedisOptions) -> Vec<Finding> {
    let Refusals { missing, other, undeclared, full, read_only } = refusals;
    let untried = *full || *read_only;
    let mut findings = Vec::new();
    if !missing.is_empty() {
        let commands: Vec<&str> = missing.iter().filter_map(|refused| refused.split([' ', ':']).next()).collect();
        let lost = match losses(&commands) {
            lost if lost.is_empty() => String::new(),
            lost => format!(". Without that: {}", lost.join("; ")),
        };
        let to_do = if missing.iter().all(|refused| is_unknown(refused)) { let_know(&commands) } else { grant(config) };
        findings.push(Finding::problem("rights", format!("the server refuses {}{lost}", missing.join("; ")), to_do));
    }
    if !other.is_empty() {
        findings.push(Finding::problem(
            "rights",
            format!("not known for commands that failed for another reason: {}", other.join("; ")),
            "find out what these errors mean, and check again",
        ));
    }
    if let Some(text) = undeclared {
        findings.push(Finding::problem(
            "rights",
            format!(
                "a script may not use a key that it finds by itself, and that is not among its KEYS: {text}. Without that: nothing is \
                 stored, every invalidation is deferred, and no cache is read"
            ),
            format!("{}. A server that refuses such keys to every user cannot be used", grant(config)),
        ));
    }
    if *full {
        findings.push(Finding::problem(
            "memory",
            "the server is full (OOM), or takes no writes (MISCONF, NOREPLICAS): nothing can be stored; invalidations still run if they \
             free memory",
            "give it more memory (maxmemory), or see its log",
        ));
    }
    if missing.is_empty() && other.is_empty() && undeclared.is_none() {
        findings.push(match untried {
            true => Finding::note(
                "rights",
                "none of those that could be tried is missing; writes and scripts cannot be, while the server takes no writes",
            ),
            false => Finding::ok(
                "rights",
                format!(
                    "all commands and scripts that larder needs run on keys that begin with {}:, also on a key that a script finds by \
                     itself. Each command was sent, and called within a script, on keys under {}:larder+check",
                    config.prefix, config.prefix
                ),
            ),
        });
    }
    findings
}

fn sent(config: &RedisOptions, base: &str, key: &str) -> Vec<Cmd> {
    let mut set = redis::cmd("SET");
    set.arg(key).arg("12345678").arg("PX").arg(10_000);
    let mut get = redis::cmd("GET");
    get.arg(key);
    let mut range = redis::cmd("GETRANGE");
    range.arg(key).arg(0).arg(3);
    let mut several = redis::cmd("MGET");
    several.arg(key);
    let mut scan = redis::cmd("SCAN");
    scan.arg(0).arg("MATCH").arg(format!("{base}*")).arg("COUNT").arg(1);
    let mut all = vec![set, get, range, several, scan, redis::cmd("TIME")];
    if config.wait_replicas > 0 {
        let mut wait = redis::cmd(WAIT);
        wait.arg(0).arg(1);
        all.push(wait);
    }
    all
}

/// The name of a command: its first argument.
fn name(command: &Cmd) -> String {
    let first = command.args_iter().find_map(|argument| match argument {
        redis::Arg::Simple(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    });
    first.unwrap_or_default()
}

/// The command that gives the user all rights that larder needs.
pub(super) fn grant(config: &RedisOptions) -> String {
    let strict = (config.wait_replicas > 0).then_some(&WAIT);
    let all = IN_SCRIPTS.iter().chain(&SENT).chain(strict);
    let mut commands: Vec<String> = all.map(|command| format!("+{}", command.to_lowercase())).collect();
    commands.sort_unstable();
    commands.dedup();
    let user = config.username.as_deref().unwrap_or("default");
    format!("ACL SETUSER {user} ~{}:* {} +hello +auth +info +client", config.prefix, commands.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the commands from the scripts' own code.
    #[test]
    fn what_the_scripts_call_is_tried() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../larder/src/connector/redis/lua");
        let mut scripts = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let code = std::fs::read_to_string(file.unwrap().path()).unwrap();
            scripts += 1;
            for call in code.split("call('").skip(1).chain(code.split("{'").skip(1)) {
                let command = call.split('\'').next().unwrap();
                // Tried only where nodes follow a cache, because others do without.
                if command == "SPUBLISH" {
                    assert!(crate::check::tiers::MAY_WAKE.contains("try('SPUBLISH'"));
                    continue;
                }
                assert!(IN_SCRIPTS.contains(&command), "{command}");
                assert!(PROBE.contains(&format!("try('{command}'")), "{command}");
            }
        }
        assert!(scripts >= 7, "the scripts have moved");
    }

    #[test]
    fn what_a_refusal_says() {
        for (text, said) in [
            ("NOPERM this user has no permissions to run the 'get' command", Said::Missing),
            ("ERR The user executing the script can't run this command or subcommand", Said::Missing),
            ("ERR unknown command 'GET', with args beginning with: 'x'", Said::Missing),
            ("ERR Unknown Redis command called from script script: f00d", Said::Missing),
            ("READONLY You can't write against a read only replica.", Said::ReadOnly),
            ("NOREPLICAS Not enough good replicas to write.", Said::Full),
            ("OOM command not allowed when used memory > 'maxmemory'.", Said::Full),
            ("BUSY Redis is busy running a script", Said::Other),
            ("MASTERDOWN Link with MASTER is down", Said::Other),
        ] {
            assert_eq!(judge(text), said, "{text}");
        }
    }

    #[test]
    fn the_grant_names_user_prefix_and_every_command_once() {
        let config = RedisOptions::default().credentials("service", "barley");
        let grant = grant(&config);
        assert!(grant.starts_with("ACL SETUSER service ~larder:* +bitfield +eval "), "{grant}");
        assert_eq!(grant.matches("+get ").count(), 1);
        assert!(!grant.contains("+wait"), "{grant}");
        assert!(super::grant(&config.wait_replicas(1)).contains(" +wait"));
    }
}
