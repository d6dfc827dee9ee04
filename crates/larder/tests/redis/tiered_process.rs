//! Nodes that follow a server, each in a process of its own: killed, and stopped while a change waits for them.

use crate::node::servers;
use crate::tier_node::TierNode;
use crate::tiered::followers;
use larder_testing::server::{Server, ServerOptions};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Where the process finds the server that it is to follow.
const SOCKET: &str = "LARDER_TEST_SOCKET";

/// What the process says, on a line of its own, when it has the object in its memory.
const HAS_IT: &str = "the object is in the memory";

/// What comes before the answer of the process to a question.
const FINDS: &str = "in memory, on the server: ";

const VALIDITY: Duration = Duration::from_secs(1);

/// How long a test waits for what takes a validity.
const LONG: Duration = Duration::from_secs(30);

/// A process that follows a server, and has the object of host `a` in its memory.
struct Process {
    child: Child,
    questions: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    async fn that_follows(server: &Server) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "tiered_process::what_another_process_does"])
            .env(SOCKET, server.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (questions, lines) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
        let process = Self { child, questions, lines };
        process.says(HAS_IT).await.0
    }

    /// Waits until the process says something that begins so. Returns the rest of that line.
    async fn says(mut self, begins: &'static str) -> (Self, String) {
        let heard = tokio::task::spawn_blocking(move || {
            let rest = |line: String| line.strip_prefix(begins).map(str::to_owned);
            let said = self.lines.by_ref().map_while(Result::ok).find_map(rest);
            let Some(said) = said else { panic!("the process has ended") };
            (self, said)
        });
        heard.await.unwrap()
    }

    /// Asks what the process finds under host `a`. A process that is stopped answers when it goes on.
    fn ask(&mut self) {
        self.questions.write_all(b"?\n").unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Stops the process, and returns when all of its threads stand still.
    fn stop(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
        // NOWAIT: the process stays one that can be waited for.
        waitid(WaitId::Pid(self.pid()), WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT).unwrap();
    }

    fn go_on(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that is stopped does not end by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: what [`Process::that_follows`] runs. It ends with the process that has started it.
#[test]
#[ignore = "another test runs it, in a process of its own"]
fn what_another_process_does() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let node = runtime.block_on(async {
        let node = TierNode::on(Path::new(&socket), VALIDITY).await;
        node.has("a").await;
        node
    });
    println!("\n{HAS_IT}");
    for _question in std::io::stdin().lines() {
        let here = node.here("a").is_some();
        let there = runtime.block_on(node.by_host("a")).is_some();
        println!("\n{FINDS}{here}, {there}");
    }
}

/// kill -9: nobody gives the place in the table up. One change waits until the memory of the process would no longer be valid, and no change after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_killed_is_waited_for_once() {
    for server in servers(ServerOptions::default()).await {
        let writer = TierNode::on(server.socket(), VALIDITY).await;
        writer.set("1", &["a"], "old").await;
        let mut process = Process::that_follows(&server).await;
        process.kill();
        assert_eq!(followers(&server).await, 2, "it has not said that it goes");
        let begun = Instant::now();
        writer.invalidate("a").await;
        assert!(begun.elapsed() >= VALIDITY, "nobody has acknowledged the change in its place");
        // Whoever has waited removes the entry, or on a busy machine whoever waits next: from then on a change has nobody to wait for.
        while followers(&server).await > 1 {
            assert!(begun.elapsed() < LONG, "the entry of the process is not removed");
            writer.invalidate("a").await;
        }
        writer.set("2", &["b"], "x").await;
        writer.invalidate("b").await;
        assert_eq!(followers(&server).await, 1);
    }
}

/// SIGSTOP: the process hears of nothing, and keeps its memory. The change waits until that memory is not valid any more. What the process is asked first when
/// it goes on finds nothing from before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_stopped_while_a_change_waited_for_it_finds_nothing_older() {
    for server in servers(ServerOptions::default()).await {
        let writer = TierNode::on(server.socket(), VALIDITY).await;
        writer.set("1", &["a"], "old").await;
        let mut process = Process::that_follows(&server).await;
        process.ask();
        let (mut process, before) = process.says(FINDS).await;
        assert!(before.ends_with("true"), "the object is there: {before}");
        process.stop();
        let begun = Instant::now();
        tokio::time::timeout(LONG, writer.invalidate("a"))
            .await
            .expect("the wait ends, although the process is stopped");
        assert!(begun.elapsed() >= VALIDITY, "nobody has acknowledged the change in its place");
        // The question is there before the process goes on, and so before anything that it may hear then.
        process.ask();
        process.go_on();
        let (_process, after) = process.says(FINDS).await;
        assert_eq!(after, "false, false");
    }
}
