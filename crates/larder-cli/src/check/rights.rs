//! Whether larder may do on the server what it does: by doing it, under the configured prefix, to keys that no cache has.
//!
//! A user's rights are commands and key patterns, and what a managed server forbids beyond them is written nowhere. So each command
//! is sent once, by itself and from within a script, on keys that expire by themselves and are removed at the end.

use super::finding::Finding;
use super::server::said;
use larder::config::RedisConfig;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};

/// What larder's scripts call.
const IN_SCRIPTS: [&str; 12] = [
    "BITFIELD", "EXISTS", "GET", "GETRANGE", "MGET", "PERSIST", "PEXPIRE", "RENAME", "SET", "SETRANGE", "TIME",
    "UNLINK",
];

/// What larder sends itself. INFO and CLIENT SETNAME it can do without.
const SENT: [&str; 10] = ["EVAL", "EVALSHA", "GET", "GETRANGE", "MGET", "PING", "SCAN", "SET", "UNLINK", "SELECT"];

/// Runs as larder's own scripts do, also when memory is full, and says which call was refused.
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

/// Tries everything, and cleans up.
pub(super) async fn try_out(connection: &mut MultiplexedConnection, config: &RedisConfig) -> Vec<Finding> {
    // No cache can have this name: it has a character too many.
    let base = format!("{}:larder+check:{:08x}", config.prefix, fastrand::u32(..));
    let (key, other) = (format!("{base}:a"), format!("{base}:b"));
    let mut refused = Vec::new();
    let mut full = false;

    for command in sent(&base, &key) {
        if let Err(error) = command.exec_async(connection).await {
            note(&error, &name(&command), &mut refused, &mut full);
        }
    }
    // A script that the server does not know must be answered NOSCRIPT, after which its code is sent.
    let mut by_hash = redis::cmd("EVALSHA");
    by_hash.arg("0000000000000000000000000000000000000000").arg(0);
    match by_hash.exec_async(connection).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {}
        Err(error) => note(&error, "EVALSHA", &mut refused, &mut full),
        Ok(()) => refused.push("EVALSHA: a script that nobody has sent was run".to_owned()),
    }
    let mut by_code = redis::cmd("EVAL");
    by_code.arg(PROBE).arg(2).arg(&key).arg(&other);
    match by_code.query_async::<Vec<String>>(connection).await {
        Ok(in_script) => refused.extend(in_script.into_iter().map(|said| format!("in a script: {said}"))),
        Err(error) => note(&error, "EVAL", &mut refused, &mut full),
    }
    let mut unlink = redis::cmd("UNLINK");
    if let Err(error) = unlink.arg(&[key, other]).exec_async(connection).await {
        note(&error, "UNLINK", &mut refused, &mut full);
    }

    let mut findings = vec![match refused.as_slice() {
        [] => Finding::ok(
            "rights",
            format!("all commands and scripts that larder needs run on keys that begin with {}:", config.prefix),
        ),
        refused => Finding::problem("rights", format!("the server refuses {}", refused.join("; ")), grant(config)),
    }];
    if full {
        findings.push(Finding::problem(
            "memory",
            "the server is full (OOM) or takes no writes (MISCONF): nothing can be stored; invalidations still run where they free memory",
            "give it more memory (maxmemory), or see its log",
        ));
    }
    findings
}

fn sent(base: &str, key: &str) -> [Cmd; 5] {
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
    [set, get, range, several, scan]
}

/// The name of a command, out of its first argument.
fn name(command: &Cmd) -> String {
    let first = command.args_iter().find_map(|argument| match argument {
        redis::Arg::Simple(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    });
    first.unwrap_or_default()
}

fn note(error: &RedisError, command: &str, refused: &mut Vec<String>, full: &mut bool) {
    if matches!(error.code(), Some("OOM" | "MISCONF")) {
        *full = true;
    } else {
        refused.push(format!("{command}: {}", said(error)));
    }
}

/// How to give a user what larder needs.
pub(super) fn grant(config: &RedisConfig) -> String {
    let mut commands: Vec<String> =
        IN_SCRIPTS.iter().chain(&SENT).map(|command| format!("+{}", command.to_lowercase())).collect();
    commands.sort_unstable();
    commands.dedup();
    let user = config.username.as_deref().unwrap_or("default");
    format!("ACL SETUSER {user} ~{}:* {} +hello +auth +info +client", config.prefix, commands.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scripts themselves say what they call.
    #[test]
    fn what_the_scripts_call_is_tried() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../larder/src/connector/redis/lua");
        let mut scripts = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let code = std::fs::read_to_string(file.unwrap().path()).unwrap();
            scripts += 1;
            for call in code.split("call('").skip(1).chain(code.split("{'").skip(1)) {
                let command = call.split('\'').next().unwrap();
                assert!(IN_SCRIPTS.contains(&command), "{command}");
                assert!(PROBE.contains(&format!("try('{command}'")), "{command}");
            }
        }
        assert!(scripts >= 7, "the scripts have moved");
    }

    #[test]
    fn the_grant_names_user_prefix_and_every_command_once() {
        let config = RedisConfig { username: Some("service".to_owned()), ..RedisConfig::default() };
        let grant = grant(&config);
        assert!(grant.starts_with("ACL SETUSER service ~larder:* +bitfield +eval "), "{grant}");
        assert_eq!(grant.matches("+get ").count(), 1);
    }
}
