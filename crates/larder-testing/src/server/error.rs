//! [`ServerError`].

use super::{Reply, ServerBinary};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a server failed, or why it did not do what it was told.
#[derive(Debug, Error)]
pub enum ServerError {
    /// This machine has no server.
    #[error(
        "no Redis or Valkey server found: `cargo xtask test` installs one, or install it yourself (Debian: apt install redis-server), \
         or name its path in LARDER_SERVERS"
    )]
    NoServer,
    /// A program that was found or named is not a usable server.
    #[error("{path} is not a Redis or Valkey server: asked for its version, it said {said:?}; correct PATH or LARDER_SERVERS", path = path.display())]
    NotAServer {
        /// The program.
        path: PathBuf,
        /// What it printed, or why it could not be run.
        said: String,
    },
    /// The server did not start.
    #[error("{binary} did not start: {reason}; its log:\n{log}")]
    Start {
        /// The server.
        binary: Box<ServerBinary>,
        /// What went wrong.
        reason: String,
        /// All that the server printed.
        log: String,
    },
    /// The server is not running: it was killed, or ended by itself.
    #[error("the server is not running; `restart` starts it again")]
    Down,
    /// The server could not be reached, or did not answer in time.
    #[error("{command} got no answer: {error}")]
    NoAnswer {
        /// The first word of the command; the rest may be secret.
        command: String,
        /// What happened instead.
        error: io::Error,
    },
    /// The server answered, but with an error or with something unexpected.
    #[error("{command} was answered {reply:?}")]
    Refused {
        /// The first word of the command; the rest may be secret.
        command: String,
        /// The answer.
        reply: Reply,
    },
    /// Something on this machine failed.
    #[error("{what}: {error}")]
    Machine {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: io::Error,
    },
}

pub(super) fn machine(what: &'static str) -> impl FnOnce(io::Error) -> ServerError {
    move |error| ServerError::Machine { what, error }
}
