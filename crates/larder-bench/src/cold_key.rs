//! Counts the loads when 1,000 readers in each of 4 processes ask at once for the same object, which is not cached.
//!
//! The processes run this program again, with the server's port. Each connects, prints `ready`, and waits for the number of an object. Then
//! all its readers ask for that object. The source takes 20 ms, so that no load ends before the last reader asks.

use crate::measure::{Bar, Comparison, Contestant, Group};
use crate::sample::{Sample, Shape, host};
use crate::testbed::{Opening, Testbed, connected, text};
use larder::LoadOptions;
use larder_testing::server::ServerBinary;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The argument that makes the program one of these processes. The next argument is the port, a slash, and the lease in milliseconds.
pub(crate) const READERS: &str = "--readers";

const PROCESSES: usize = 4;
const READERS_EACH: usize = 1_000;
const SOURCE: Duration = Duration::from_millis(20);
const LEASE: Duration = Duration::from_secs(2);

pub(crate) fn rows(binary: &ServerBinary, suffix: &str) -> Group {
    let binary = binary.clone();
    let row = |name: &str, contestant: &str, bar| {
        Comparison::new(format!("{name}/{suffix}"), contestant, "one load", Bar::Most(bar))
    };
    Group {
        name: format!("loads of a cold key, {suffix}"),
        rows: vec![row("cold-key", ALONE, 4.0), row("cold-key-lease", LEASED, 1.0)],
        contestants: Box::new(move |_| {
            Ok(vec![
                loads(&binary, ALONE, Duration::ZERO)?,
                loads(&binary, LEASED, LEASE)?,
                Contestant::new("one load", "loads", || Ok(1.0)),
            ])
        }),
        varies: true,
    }
}

const ALONE: &str = "4 processes of 1,000 readers";
const LEASED: &str = "same, with a lease";

fn loads(binary: &ServerBinary, name: &'static str, lease: Duration) -> Result<Contestant, String> {
    let bed = Testbed::start(binary, 1)?;
    let port = bed.port()?;
    let mut processes = (0..PROCESSES).map(|_| Process::start(port, lease)).collect::<Result<Vec<_>, _>>()?;
    let mut number = 0_u32;
    Ok(Contestant::new(name, "loads", move || {
        // The closure owns the testbed, so that the server runs as long as it is needed.
        let _ = &bed;
        number += 1;
        for process in &mut processes {
            process.ask(number)?;
        }
        processes.iter_mut().map(Process::loads).sum()
    }))
}

/// A process with many readers. It ends when its standard input is closed.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(port: u16, lease: Duration) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(text)?;
        let mut command = Command::new(program);
        command.args([READERS, &format!("{port}/{}", lease.as_millis())]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(text)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a process of readers cannot be talked to".to_owned());
        };
        let mut process = Self { child, input, output: BufReader::new(output) };
        if process.line()? == "ready" { Ok(process) } else { Err("a process of readers cannot read".to_owned()) }
    }

    fn ask(&mut self, number: u32) -> Result<(), String> {
        writeln!(self.input, "{number}").map_err(text)
    }

    fn loads(&mut self) -> Result<f64, String> {
        let line = self.line()?;
        line.parse().map_err(|_| format!("a process of readers says: {line}"))
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(text)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs one of the processes.
pub(crate) fn read(how: &str) -> Result<(), String> {
    let (port, lease) = how.split_once('/').ok_or("a port, a slash, and a lease in milliseconds")?;
    let port = port.parse().map_err(text)?;
    let lease = Duration::from_millis(lease.parse().map_err(text)?);
    let loading = LoadOptions::new().lease(lease);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(text)?;
    let (cache, _redis) = runtime.block_on(connected(port, Opening { loading, ..Opening::plain() }))?;
    println!("ready");
    for line in std::io::stdin().lines() {
        let number: u32 = line.map_err(text)?.parse().map_err(text)?;
        let loads = Arc::new(AtomicU64::new(0));
        let readers: Vec<_> = (0..READERS_EACH)
            .map(|_| {
                let (cache, loads) = (cache.clone(), loads.clone());
                runtime.spawn(async move {
                    let load = move |_| async move {
                        loads.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(SOURCE).await;
                        Ok::<Option<Sample>, Infallible>(Some(Shape::of(300).object(number)))
                    };
                    cache.get_or_load(Sample::HOST, host(number, 0), load).await
                })
            })
            .collect();
        runtime.block_on(async {
            for reader in readers {
                reader.await.map_err(text)?.map_err(text)?.ok_or("a reader found nothing")?;
            }
            Ok::<_, String>(())
        })?;
        println!("{}", loads.load(Ordering::Relaxed));
    }
    Ok(())
}
