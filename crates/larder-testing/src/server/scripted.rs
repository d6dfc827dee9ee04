//! [`ScriptedServer`]: a server that answers what a test says.

use super::{Endpoint, Reply, Stream};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncWriteExt, BufReader};

/// Poses as a server: reads commands, and answers each with the bytes a closure returns.
///
/// For answers that a real server cannot easily be made to give: that it does not know `HELLO`, that it is still loading, that it has
/// become a replica, or garbage.
///
/// The closure gets the words of a command, at least one, in the case in which the client sent them. It returns the bytes to send; no
/// bytes mean no answer. A closure that panics closes the connection. Bytes that are not a command close the connection, too.
///
/// ```
/// use larder_testing::server::{Reply, ScriptedServer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = ScriptedServer::start(|words| match words[0].as_slice() {
///     b"HELLO" => b"-ERR unknown command 'HELLO'\r\n".to_vec(),
///     b"GET" => Reply::Bulk(b"value".to_vec()).encode(),
///     _ => b"-LOADING Redis is loading the dataset in memory\r\n".to_vec(),
/// })
/// .await?;
/// println!("connect to {}", server.url());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ScriptedServer {
    endpoint: Endpoint,
}

impl ScriptedServer {
    /// Starts to listen. Everything ends when the server is dropped.
    ///
    /// # Errors
    ///
    /// The server cannot listen.
    pub async fn start<A>(answer: A) -> io::Result<ScriptedServer>
    where
        A: Fn(&[Vec<u8>]) -> Vec<u8> + Send + Sync + 'static,
    {
        let answer = Arc::new(answer);
        let endpoint = Endpoint::start(move |stream| {
            let answer = answer.clone();
            // However the conversation ended, the connection is closed.
            async move { drop(converse(stream, &*answer).await) }
        })?;
        Ok(ScriptedServer { endpoint })
    }

    /// Closes all open connections, and returns when they are closed.
    pub async fn drop_connections(&self) {
        self.endpoint.drop_connections().await;
    }

    /// The Unix socket that the server listens on.
    pub fn socket(&self) -> &Path {
        self.endpoint.socket()
    }

    /// The port of 127.0.0.1 that the server listens on.
    pub fn port(&self) -> u16 {
        self.endpoint.port()
    }

    /// The address of the server for a client: `redis://127.0.0.1:port`.
    pub fn url(&self) -> String {
        self.endpoint.url()
    }
}

async fn converse(stream: Stream, answer: &(dyn Fn(&[Vec<u8>]) -> Vec<u8> + Send + Sync)) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Reply::Array(words) = Reply::read(&mut stream).await? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let words: Vec<_> = words.iter().filter_map(Reply::bytes).map(<[u8]>::to_vec).collect();
        if !words.is_empty() {
            stream.write_all(&answer(&words)).await?;
            stream.flush().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpStream, UnixStream};

    async fn scripted() -> io::Result<ScriptedServer> {
        ScriptedServer::start(|words| match words[0].as_slice() {
            b"HELLO" => b"-ERR unknown command 'HELLO'\r\n".to_vec(),
            b"ECHO" => Reply::Bulk(words[1].clone()).encode(),
            b"SILENCE" => Vec::new(),
            _ => b"\xff\xfe garbage".to_vec(),
        })
        .await
    }

    #[tokio::test]
    async fn it_answers_as_told_in_order_and_whatever_the_bytes() -> Result<(), Box<dyn Error>> {
        let server = scripted().await?;
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", server.port())).await?);
        let wire = [
            Reply::command(&["HELLO", "3"]).encode(),
            Reply::command(&["SILENCE"]).encode(),
            Reply::command(&[b"ECHO".as_slice(), b"\r\n\0"]).encode(),
            Reply::command(&["OTHER"]).encode(),
        ];
        stream.write_all(&wire.concat()).await?;
        assert_eq!(Reply::read(&mut stream).await?, Reply::Error("ERR unknown command 'HELLO'".into()));
        assert_eq!(Reply::read(&mut stream).await?, Reply::Bulk(b"\r\n\0".to_vec()));
        let mut rest = [0; 10];
        stream.read_exact(&mut rest).await?;
        assert_eq!(&rest, b"\xff\xfe garbage");
        Ok(())
    }

    #[tokio::test]
    async fn connections_close_when_told_after_garbage_and_at_the_end() -> Result<(), Box<dyn Error>> {
        let server = scripted().await?;
        let mut stream = UnixStream::connect(server.socket()).await?;
        stream.write_all(b"GET / HTTP/1.1\r\n").await?;
        assert_eq!(stream.read(&mut [0]).await?, 0);

        let mut stream = BufReader::new(UnixStream::connect(server.socket()).await?);
        stream.write_all(&Reply::command(&["ECHO", ""]).encode()).await?;
        assert_eq!(Reply::read(&mut stream).await?, Reply::Bulk(Vec::new()));
        server.drop_connections().await;
        assert_eq!(stream.read(&mut [0]).await?, 0);

        let mut stream = UnixStream::connect(server.socket()).await?;
        drop(server);
        assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));
        Ok(())
    }
}
