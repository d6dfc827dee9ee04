//! A small process that ends the server and removes the folders if the coordinator is killed.
//!
//! The coordinator starts the guard first, and holds the only writing end of a pipe to it. Through the pipe it reports each folder and each
//! server process. If the pipe closes without a goodbye, the coordinator was killed. Then the guard kills the server and removes the
//! folders. Nodes end by themselves when the pipe with their orders closes.
//!
//! What the guard does not cover: a guard that is killed, too; and the moment between the start of a server and its report, unless the kernel
//! ends a server with its owner (`setpriv` on Linux).

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the guard tries to remove the folders: a process that is just being killed may still write into them.
const CLEARING: Duration = Duration::from_secs(20);

/// A server of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Role {
    /// The number of its port; 0: it has none.
    Redis(u16),
    Primary,
    /// Follows the primary, until it takes over.
    Standby,
    Pooler,
}

/// A message from the coordinator.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// A folder that must be removed.
    Folder(PathBuf),
    /// The number of a server's process, which leads a process group. `None`: there is no such server now.
    Server(Role, Option<u32>),
    /// The coordinator ends normally, and the guard has nothing to do.
    Goodbye,
}

/// The coordinator's side of the guard.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
    /// The pipe to the guard. `None` after the goodbye.
    words: Mutex<Option<ChildStdin>>,
}

impl Guard {
    pub(crate) fn start() -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("guard")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal to the coordinator's process group, from a terminal or a shell, must not reach the guard.
            .process_group(0)
            .spawn()?;
        let words = Mutex::new(child.stdin.take());
        Ok(Self { child, words })
    }

    pub(crate) fn folder(&self, folder: &Path) {
        self.say(&Word::Folder(folder.to_owned()));
    }

    /// Reports the folder that a socket is in.
    pub(crate) fn folder_of(&self, socket: &Path) {
        if let Some(folder) = socket.parent() {
            self.folder(folder);
        }
    }

    /// Reports a server's process. Call it with `None` before a server is killed: its number may pass to another process.
    pub(crate) fn server(&self, role: Role, pid: Option<u32>) {
        self.say(&Word::Server(role, pid));
    }

    fn say(&self, word: &Word) {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(words), Ok(mut line)) = (&mut *words, serde_json::to_string(word)) {
            line.push('\n');
            // If the guard was killed, the run goes on without it.
            let _ = words.write_all(line.as_bytes());
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.say(&Word::Goodbye);
        self.words.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = self.child.wait();
    }
}

/// Runs the guard: reads messages until the pipe closes.
pub(crate) fn run() {
    let (mut folders, mut servers) = (BTreeSet::new(), BTreeMap::new());
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(Word::Folder(folder)) => drop(folders.insert(folder)),
            Ok(Word::Server(role, pid)) => drop(servers.insert(role, pid)),
            Ok(Word::Goodbye) => return,
            // The coordinator may have been killed in the middle of a line.
            Err(_) => break,
        }
    }
    let pids = servers.into_values().flatten().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    for server in pids {
        // The sessions of PostgreSQL have process groups of their own. Look for them while their parent still is.
        let sessions = children(server);
        // Kill the whole group, so that a child that writes a snapshot ends, too.
        let _ = kill_process_group(server, Signal::KILL);
        for session in sessions {
            let _ = kill_process(session, Signal::KILL);
        }
    }
    for folder in &folders {
        larder_testing::postgres::free_shared_memory(folder);
    }
    let deadline = Instant::now() + CLEARING;
    for folder in &folders {
        while folder.exists() && Instant::now() < deadline {
            if std::fs::remove_dir_all(folder).is_err() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// The processes that this one has started. Linux only: elsewhere the sessions of PostgreSQL notice by themselves that their server has ended.
fn children(parent: Pid) -> Vec<Pid> {
    // `pid (name) state ppid …`, where the name may have spaces and parentheses.
    let of_ours = |stat: String| {
        let pid = stat.split_once(' ')?.0.parse().ok()?;
        let of: i32 = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        if of == parent.as_raw_nonzero().get() { Pid::from_raw(pid) } else { None }
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok()).filter_map(of_ours).collect()
}
