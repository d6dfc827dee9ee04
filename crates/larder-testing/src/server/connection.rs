//! A test's own [`Connection`] to a server.

use super::{Reply, ServerError};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long a command may take.
const ANSWER: Duration = Duration::from_secs(5);

/// A connection of a test to a server, from [`Server::connect`](super::Server::connect). For tests that need several commands on the same
/// connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    pub(super) async fn open(socket: &Path) -> Result<Connection, ServerError> {
        let stream = UnixStream::connect(socket).await.map_err(no_answer(&["connect"]))?;
        Ok(Connection { stream: BufReader::new(stream) })
    }

    /// Sends a command and returns the answer, which may be an error.
    ///
    /// # Errors
    ///
    /// [`ServerError::NoAnswer`]: there was no answer within 5 seconds. The connection is then of no more use.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the connection is of no more use.
    pub async fn command(&mut self, args: &[impl AsRef<[u8]>]) -> Result<Reply, ServerError> {
        let answer = timeout(ANSWER, self.exchange(args)).await;
        answer.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())).map_err(no_answer(args))
    }

    /// As [`Connection::command`], but an error as the answer fails.
    pub(super) async fn accepted(&mut self, args: &[impl AsRef<[u8]>]) -> Result<Reply, ServerError> {
        match self.command(args).await? {
            reply @ Reply::Error(_) => Err(ServerError::Refused { command: first_word(args), reply }),
            reply => Ok(reply),
        }
    }

    /// As [`Connection::command`], without a time limit.
    pub(super) async fn exchange(&mut self, args: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        self.stream.write_all(&Reply::command(args).encode()).await?;
        Reply::read(&mut self.stream).await
    }
}

pub(super) fn no_answer(args: &[impl AsRef<[u8]>]) -> impl FnOnce(io::Error) -> ServerError {
    let command = first_word(args);
    move |error| ServerError::NoAnswer { command, error }
}

fn first_word(args: &[impl AsRef<[u8]>]) -> String {
    args.first().map(|word| String::from_utf8_lossy(word.as_ref()).into_owned()).unwrap_or_default()
}
