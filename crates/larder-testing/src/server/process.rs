//! A child process that does not outlive its owner.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread;
use tokio::sync::oneshot;

/// A running program with a process group of its own. Dropping it kills the group and waits until the program is gone.
///
/// Until then nothing reaps the program. So its process number cannot pass to another process, which a signal would then hit.
///
/// If the owner itself is killed, nothing is dropped. On Linux the kernel then kills the program, if `setpriv` (of util-linux) is there to
/// ask the kernel for that. On other systems the program is left behind.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
}

type Order = (Command, oneshot::Sender<io::Result<Process>>);

impl Process {
    /// Runs `program`. Before that, `prepare` completes the command.
    pub(super) async fn spawn(program: &OsStr, prepare: impl FnOnce(&mut Command)) -> io::Result<Process> {
        Self::spawn_as(None, program, prepare).await
    }

    /// The same, as the user and the group of these numbers.
    pub(crate) async fn spawn_as(
        user: Option<(u32, u32)>,
        program: &OsStr,
        prepare: impl FnOnce(&mut Command),
    ) -> io::Result<Process> {
        let follows = follows_its_owner();
        let mut command = Command::new(if follows { OsStr::new("setpriv") } else { program });
        if follows {
            // `setpriv` changes the user itself: whoever changes it before loses the signal.
            if let Some((user, group)) = user {
                command.args(["--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups"]);
            }
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        } else if let Some((user, group)) = user {
            command.uid(user).gid(group);
        }
        prepare(&mut command);
        command.process_group(0);

        let (reply, spawned) = oneshot::channel();
        let no_thread = |_| io::Error::other("cannot start the thread that starts programs");
        spawner().send((command, reply)).map_err(no_thread)?;
        spawned.await.map_err(|_| io::Error::other("the thread that starts programs has ended"))?
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the program has ended, by itself or by a signal.
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        // NOWAIT: the program is reaped only when it is dropped.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(self.pid), options)?.is_some())
    }

    /// Stops the program (SIGSTOP), and returns when all its threads have stopped.
    pub(crate) fn stop(&self) -> io::Result<()> {
        kill_process(self.pid, Signal::STOP)?;
        // NOWAIT: a second stop finds the same state again. Without it, a second stop would wait for a change that never comes.
        match waitid(WaitId::Pid(self.pid), WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT) {
            Err(Errno::CHILD) => Err(io::Error::new(io::ErrorKind::NotFound, "it has ended")),
            other => Ok(other.map(|_| ())?),
        }
    }

    /// Lets the program continue (SIGCONT).
    pub(crate) fn cont(&self) -> io::Result<()> {
        Ok(kill_process(self.pid, Signal::CONT)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Kill the whole group, so that a child that writes a snapshot ends, too. SIGKILL also ends a stopped program.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The thread that starts every program.
///
/// The kernel sends the signal of `--pdeathsig` when the *thread* that started the program ends. The threads of a runtime or of a test
/// end early. This thread ends with the process.
fn spawner() -> &'static mpsc::Sender<Order> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        // If the thread cannot be started, the channel is closed, and `spawn` reports that.
        let _ = thread::Builder::new().name("larder-spawner".into()).spawn(move || {
            for (command, reply) in orders {
                // The caller may be gone by now. Then the process is dropped here, and killed.
                let _ = reply.send(start(command));
            }
        });
        sender
    })
}

fn start(mut command: Command) -> io::Result<Process> {
    let child = command.spawn()?;
    let pid = Pid::from_child(&child);
    Ok(Process { child, pid })
}

/// Whether `setpriv` is there, and can ask the kernel for a signal when the owner ends.
fn follows_its_owner() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let mut probe = Command::new("setpriv");
        probe.args(["--pdeathsig", "KILL", "--", "true"]);
        probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;
    use std::fs;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::{Duration, Instant};

    /// Whether any process was given this argument.
    fn anybody_has(argument: &str) -> io::Result<bool> {
        let has = |command: Vec<u8>| command.split(|byte| *byte == 0).any(|word| word == argument.as_bytes());
        Ok(fs::read_dir("/proc")?.flatten().filter_map(|entry| fs::read(entry.path().join("cmdline")).ok()).any(has))
    }

    fn sleeping(argument: &str) -> impl Future<Output = io::Result<Process>> {
        Process::spawn(OsStr::new("sleep"), move |command| {
            command.arg(argument);
        })
    }

    #[tokio::test]
    async fn a_program_whose_spawn_is_given_up_is_killed() -> Result<(), Box<dyn Error>> {
        let (given_up, kept) = (format!("31.{}", fastrand::u32(..)), format!("32.{}", fastrand::u32(..)));
        let began = pin!(sleeping(&given_up)).poll(&mut Context::from_waker(Waker::noop()));
        // If the spawning thread was quick, this drops the program itself; otherwise it drops the future.
        drop(began);
        // The same thread spawns all programs in order. So when this program runs, the one that was given up has been dealt with.
        let process = sleeping(&kept).await?;
        // Between fork and exec a process shows other arguments, so wait until this one shows its own.
        let deadline = Instant::now() + Duration::from_secs(10);
        while !anybody_has(&kept)? {
            assert!(Instant::now() < deadline, "it has not begun to sleep");
            tokio::task::yield_now().await;
        }
        assert!(!anybody_has(&given_up)?);
        drop(process);
        assert!(!anybody_has(&kept)?);
        Ok(())
    }

    #[tokio::test]
    async fn the_group_goes_with_the_program() -> Result<(), Box<dyn Error>> {
        let argument = format!("30.{}", fastrand::u32(..));
        let script = format!("sleep {argument} & echo; wait");
        let (mut reader, writer) = io::pipe()?;
        let process = Process::spawn(OsStr::new("sh"), |command| {
            command.args(["-c", &script]).stdout(writer);
        });
        let process = process.await?;
        io::Read::read_exact(&mut reader, &mut [0])?;
        drop(process);
        // This process cannot wait for the child of its child, so it looks until that child has ended.
        let deadline = Instant::now() + Duration::from_secs(10);
        while anybody_has(&argument)? {
            assert!(Instant::now() < deadline, "it sleeps on");
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    #[tokio::test]
    async fn what_has_ended_is_known_and_cannot_be_stopped() -> Result<(), Box<dyn Error>> {
        let process = Process::spawn(OsStr::new("true"), |_| {}).await?;
        while !process.has_ended()? {
            tokio::task::yield_now().await;
        }
        assert!(process.stop().is_err());
        assert!(process.has_ended()?);
        Ok(())
    }
}
