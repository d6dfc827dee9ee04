//! A process that only uses the memory connector is small and touches no network.
//!
//! The promise: with 1,000 objects in it, such a process idles under 10 MB of resident memory, all of its code included, and has no
//! socket.
//!
//! The 10 MB are asked of a release build, which is what users run: `cargo test --release -p larder-idle`, a step of `cargo xtask test`.
//! How much of a program's own file is resident depends on how the kernel maps it, and the file of a debug build is several times as
//! large. A debug build is asked for everything else: what the process has allocated, and its sockets.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// In kB, as the kernel counts them: everything, and what is not the program's own file.
const MOST: u64 = 10_000;
const MOST_OWN: u64 = 4_000;

#[test]
fn a_process_that_only_uses_the_memory_connector_idles_under_10_mb_without_network_code() {
    // Given by whoever started this program, should there be any.
    let sockets_before = sockets_of("self").unwrap();
    let service = Service::start();
    let (all, own, sockets) = (service.resident("VmRSS:"), service.resident("RssAnon:"), service.sockets());
    println!("resident: {all} kB, its own: {own} kB; sockets: {sockets}, before: {sockets_before}");
    assert!(own > 500, "{own} kB can not be a process with a thousand objects in it");
    assert!(own < MOST_OWN, "{own} kB its own");
    assert!(all < MOST || cfg!(debug_assertions), "{all} kB resident");
    assert!(sockets <= sockets_before, "the memory connector has opened a socket");
    service.end();
}

struct Service(Child);

impl Service {
    /// Returns when it is idle.
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_larder-idle"));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "idle\n", "the service ended: {:?}", process.wait());
        Self(process)
    }

    /// Memory in kB, by the kernel's name for it.
    fn resident(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn sockets(&self) -> usize {
        sockets_of(&self.0.id().to_string()).unwrap()
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It has ended already, but for a failed test.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sockets_of(process: &str) -> io::Result<usize> {
    let mut sockets = 0;
    for open in fs::read_dir(format!("/proc/{process}/fd"))? {
        // What was closed meanwhile is no socket that stays.
        let target = fs::read_link(open?.path()).unwrap_or_default();
        sockets += usize::from(target.to_string_lossy().starts_with("socket:"));
    }
    Ok(sockets)
}
