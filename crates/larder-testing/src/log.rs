//! What larder logs while a test runs, for tests that read it.
//!
//! The whole test process has one subscriber, which hands each line to the log of the thread that wrote it. A subscriber for each test
//! would be simpler, but loses lines: while it is the only subscriber of the process, a thread without one may be the first to reach a
//! log statement, and `tracing` then takes that statement to be of interest to nobody.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, Once, PoisonError};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// The lines that this thread has logged since [`begin`](Log::begin).
#[derive(Clone, Debug)]
pub struct Log {
    level: Level,
    text: Arc<Mutex<Vec<u8>>>,
}

/// Ends the log of its thread when it is dropped.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub struct Logging {
    _private: (),
}

thread_local! {
    static CURRENT: RefCell<Option<Log>> = const { RefCell::new(None) };
}

impl Log {
    /// Keeps what this thread logs from here on, down to this level.
    ///
    /// # Panics
    ///
    /// If the process has another global subscriber.
    #[allow(clippy::expect_used, reason = "documented; a test with another subscriber could not read its log")]
    pub fn begin(level: Level) -> (Self, Logging) {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            let lines = tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_ansi(false).with_writer(ThisThread);
            tracing::subscriber::set_global_default(lines.finish())
                .expect("the only global subscriber of this process");
        });
        let log = Self { level, text: Arc::default() };
        CURRENT.set(Some(log.clone()));
        (log, Logging { _private: () })
    }

    /// All lines.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// The lines that contain these words.
    #[must_use]
    pub fn lines(&self, words: &str) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }

    /// The number of lines that contain each of these words.
    #[must_use]
    pub fn count(&self, words: &[&str]) -> usize {
        self.text().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// Writes each line to the log of the current thread, if it has one that wants lines of that level.
struct ThisThread;

impl<'a> MakeWriter<'a> for ThisThread {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(CURRENT.with_borrow(Clone::clone))
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        Line(CURRENT.with_borrow(Clone::clone).filter(|log| *meta.level() <= log.level))
    }
}

struct Line(Option<Log>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Self(Some(log)) = self {
            log.text.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn warn() {
        tracing::warn!("seen");
    }

    /// With a subscriber for each test, the line was lost.
    #[test]
    fn a_statement_that_another_thread_reaches_first_is_logged() {
        let (log, _logging) = Log::begin(Level::INFO);
        thread::spawn(warn).join().unwrap();
        assert_eq!(log.lines("seen").len(), 0, "another thread's line");
        warn();
        tracing::debug!("below the level: not seen");
        assert_eq!(log.lines("seen").len(), 1, "{}", log.text());
    }
}
