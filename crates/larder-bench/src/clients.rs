//! The threads that the clients of a server run on.

use std::future::Future;
use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};
use tokio::sync::oneshot;

/// A runtime with threads of its own, so that connections are served while nothing is measured.
pub(crate) struct Clients {
    handle: Handle,
    /// The runtime, if it has several threads.
    _threads: Option<Runtime>,
    /// Ends the thread when it is dropped, if there is one thread.
    _end: Option<oneshot::Sender<()>>,
}

impl Clients {
    pub(crate) fn start(threads: usize) -> Result<Self, String> {
        let no_runtime = |error: std::io::Error| format!("no runtime: {error}");
        if threads > 1 {
            let runtime =
                Builder::new_multi_thread().worker_threads(threads).enable_all().build().map_err(no_runtime)?;
            return Ok(Self { handle: runtime.handle().clone(), _threads: Some(runtime), _end: None });
        }
        let runtime = Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("client".into())
            .spawn(move || {
                // The sender is only ever dropped, so the result is always an error.
                let _ = runtime.block_on(ended);
            })
            .map_err(no_runtime)?;
        Ok(Self { handle, _threads: None, _end: Some(end) })
    }

    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.handle.block_on(work)
    }

    /// Lets code that is not async start tasks here.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Runs tasks to their end, and returns the sum of the operations that they have done.
    pub(crate) fn together<F, W>(&self, tasks: usize, work: F) -> Result<usize, String>
    where
        F: Fn(usize) -> W,
        W: Future<Output = Result<usize, String>> + Send + 'static,
    {
        let running: Vec<_> = (0..tasks).map(|task| self.handle.spawn(work(task))).collect();
        self.run(async {
            let mut done = 0;
            for task in running {
                done += task.await.map_err(|error| format!("a task ended early: {error}"))??;
            }
            Ok(done)
        })
    }
}
