//! A process that only uses the memory connector is small and touches no network.
//!
//! The promise: with 1,000 objects in it, such a process idles under 10 MB of resident memory, all of its code included, and has no
//! socket. It is measured on a process of its own, which is this test program once more, told by a variable to be a service.
//!
//! The 10 MB are asked of a release build, which is what users run: `cargo test --release -p larder --test idle`, a step of `cargo xtask test`.
//! How much of a program's own file is resident depends on how the kernel maps it, and the file of a debug build is several times as
//! large. A debug build is asked for everything else: what the process has allocated, and its sockets.
#![cfg(target_os = "linux")]
// It is all test.
#![allow(clippy::unwrap_used, clippy::panic)]

use larder::{Cache, CacheOptions, Caches, Entry};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Set for the process that is measured.
const SERVICE: &str = "LARDER_IDLE_SERVICE";

/// What it says when it has nothing more to do.
const IDLE: &str = "idle, sockets before: ";

const OBJECTS: usize = 1000;

/// In kB, as the kernel counts them: everything, and what is not the program's own file.
const MOST: u64 = 10_000;
const MOST_OWN: u64 = 4_000;

#[derive(Clone, Serialize, Deserialize, Entry)]
#[entry(cache = "instance")]
struct Instance {
    #[key(primary)]
    id: String,
    #[key(index = "host")]
    hosts: Vec<String>,
    #[version]
    sequence: u64,
    name: String,
}

fn instance(number: usize) -> Instance {
    let host = |part: &str| format!("{part}-{number}.example");
    Instance {
        id: number.to_string(),
        hosts: vec![host("www"), host("login"), host("api")],
        sequence: 1,
        name: format!("instance number {number}"),
    }
}

#[test]
fn a_process_that_only_uses_the_memory_connector_idles_under_10_mb_without_network_code() {
    if std::env::var_os(SERVICE).is_some() {
        return serve();
    }
    let service = Service::start();
    let (all, own, sockets) = (service.resident("VmRSS:"), service.resident("RssAnon:"), service.sockets());
    println!("resident: {all} kB, its own: {own} kB; sockets: {sockets}, before: {}", service.sockets_before);
    assert!(own > 500, "{own} kB can not be a process with {OBJECTS} objects in it");
    assert!(own < MOST_OWN, "{own} kB its own");
    assert!(all < MOST || cfg!(debug_assertions), "{all} kB resident");
    assert_eq!(sockets, service.sockets_before, "the memory connector has opened a socket");
    service.end();
}

/// What a small service does: a cache in a single-threaded runtime. It ends with its standard input.
fn serve() {
    // Given by whoever started it, should there be any.
    let before = sockets_of("self").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (hour, ten_minutes) = (Duration::from_secs(3600), Duration::from_secs(600));
        let options = CacheOptions::on("memory").max_age(hour).last_use_age(ten_minutes);
        let caches = Caches::builder().cache::<Instance>(options).open().await.unwrap();
        let instances: Cache<Instance> = caches.open().unwrap();
        for number in 0..OBJECTS {
            instances.set(instance(number)).await;
        }
        for number in 0..OBJECTS {
            let host = format!("login-{number}.example");
            assert!(instances.get(Instance::HOST, &host).await.is_some());
        }
        println!("\n{IDLE}{before}");
        // What runs in the background goes on meanwhile.
        let (over, until_over) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let _ = io::stdin().read(&mut [0]);
            over.send(())
        });
        until_over.await.unwrap();
        caches.shutdown().await;
    });
}

struct Service {
    process: Child,
    /// Kept open, because it has something to say at its end.
    said: BufReader<ChildStdout>,
    sockets_before: usize,
}

impl Service {
    fn start() -> Self {
        let this = std::env::current_exe().unwrap();
        let test = "a_process_that_only_uses_the_memory_connector_idles_under_10_mb_without_network_code";
        let mut command = Command::new(this);
        command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(SERVICE, "yes");
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let idle = said.by_ref().lines().map_while(Result::ok).find_map(|line| line.strip_prefix(IDLE)?.parse().ok());
        let Some(sockets_before) = idle else { panic!("the service ended: {:?}", process.wait()) };
        Self { process, said, sockets_before }
    }

    /// Memory in kB, by the kernel's name for it.
    fn resident(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn sockets(&self) -> usize {
        sockets_of(&self.process.id().to_string()).unwrap()
    }

    fn end(mut self) {
        drop(self.process.stdin.take());
        let mut last_words = String::new();
        self.said.read_to_string(&mut last_words).unwrap();
        assert!(self.process.wait().unwrap().success(), "{last_words}");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It has ended already, but for a failed test.
        let _ = self.process.kill();
        let _ = self.process.wait();
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
