//! A small process that clears away what the coordinator cannot clear away where it is killed: the server and the folders.
//!
//! The coordinator starts it first, and holds a pipe to it that nobody else has. It tells what there is as that comes and goes. When the
//! pipe ends without a word of goodbye, the coordinator has been killed: then this process kills the server and removes the folders. Nodes
//! end by themselves, when the pipe from the coordinator that they read their orders from ends.
//!
//! What it does not cover: who kills the guard as well, and, where the kernel does not end a server with its owner (`setpriv` does that
//! on Linux), the moment between the start of a server and the word of it.

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a folder may take to go: whoever was killed a moment ago may still write into it.
const CLEARING: Duration = Duration::from_secs(20);

/// What the coordinator tells.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// A folder that must not stay.
    Folder(PathBuf),
    /// The process of the server, which leads a group of its own; `None`: there is none now.
    Server(Option<u32>),
    /// All is in order, and there is nothing to do.
    Goodbye,
}

/// The guard, as the coordinator has it.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
    /// `None`: it was said goodbye.
    words: Mutex<Option<ChildStdin>>,
}

impl Guard {
    pub(crate) fn start() -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("guard")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What is sent to the group of the coordinator, from a terminal or by a shell, is not for it.
            .process_group(0)
            .spawn()?;
        let words = Mutex::new(child.stdin.take());
        Ok(Self { child, words })
    }

    pub(crate) fn folder(&self, folder: &Path) {
        self.say(&Word::Folder(folder.to_owned()));
    }

    /// The folder that a socket is in.
    pub(crate) fn folder_of(&self, socket: &Path) {
        if let Some(folder) = socket.parent() {
            self.folder(folder);
        }
    }

    /// To be called with `None` before a server is killed: its number may pass to another process.
    pub(crate) fn server(&self, pid: Option<u32>) {
        self.say(&Word::Server(pid));
    }

    fn say(&self, word: &Word) {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(words), Ok(mut line)) = (&mut *words, serde_json::to_string(word)) {
            line.push('\n');
            // A guard that was killed guards nothing, and the run goes on.
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

/// What the guard does: listens until the pipe ends.
pub(crate) fn run() {
    let (mut folders, mut server) = (BTreeSet::new(), None);
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(Word::Folder(folder)) => drop(folders.insert(folder)),
            Ok(Word::Server(pid)) => server = pid,
            Ok(Word::Goodbye) => return,
            // The last line may be half a line.
            Err(_) => break,
        }
    }
    if let Some(server) = server.and_then(|server| Pid::from_raw(i32::try_from(server).ok()?)) {
        // The group, so that a child which writes a snapshot goes too.
        let _ = kill_process_group(server, Signal::KILL);
    }
    let deadline = Instant::now() + CLEARING;
    for folder in folders {
        while folder.exists() && Instant::now() < deadline {
            if std::fs::remove_dir_all(&folder).is_err() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
