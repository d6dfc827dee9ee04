//! The Redis protocol, second version, as far as tests need it: [`Reply`], and how a reply is written and read.
//!
//! Tests deliberately do not use the client library that larder uses: a test that looks at a server must not share the faults of what it
//! tests. There are no push messages and no types of the third version here, because nothing here asks the server for them.

use std::fmt;
use std::future::Future;
use std::io::{self, Error, ErrorKind};
use std::pin::Pin;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// How deep arrays may be nested. No array in a test is nested deeper. A deeper array is garbage, and must not exhaust the stack.
const DEEPEST: usize = 16;

/// The longest bulk a server accepts by default, and the longest line, in bytes: 512 MiB.
const LONGEST: u64 = 512 << 20;

/// What a server answered. Its `Debug` form shows bytes as escaped text.
///
/// ```
/// use larder_testing::server::Reply;
///
/// assert_eq!(Reply::Int(7).encode(), b":7\r\n");
/// assert_eq!(Reply::command(&["GET", "key"]).encode(), b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum Reply {
    /// A null bulk or a null array.
    Nil,
    /// An integer.
    Int(i64),
    /// A value: any bytes.
    Bulk(Vec<u8>),
    /// A status line, such as `OK`.
    Status(String),
    /// An error line, its code first: `WRONGTYPE Operation against …`.
    Error(String),
    /// Several replies in order.
    Array(Vec<Reply>),
}

impl Reply {
    /// A command with its arguments, which on the wire is an array of values.
    pub fn command(args: &[impl AsRef<[u8]>]) -> Reply {
        Reply::Array(args.iter().map(|arg| Reply::Bulk(arg.as_ref().to_vec())).collect())
    }

    /// The number in an integer reply, or in a value or status that spells one.
    pub fn int(&self) -> Option<i64> {
        match self {
            Reply::Int(number) => Some(*number),
            _ => std::str::from_utf8(self.bytes()?).ok()?.parse().ok(),
        }
    }

    /// The bytes of a value or status.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Bulk(bytes) => Some(bytes),
            Reply::Status(line) => Some(line.as_bytes()),
            _ => None,
        }
    }

    /// The bytes that stand for this reply on the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut wire = Vec::new();
        self.encode_into(&mut wire);
        wire
    }

    fn encode_into(&self, wire: &mut Vec<u8>) {
        match self {
            Reply::Nil => wire.extend(b"$-1\r\n"),
            Reply::Int(number) => wire.extend(format!(":{number}\r\n").bytes()),
            Reply::Status(line) => wire.extend(format!("+{line}\r\n").bytes()),
            Reply::Error(line) => wire.extend(format!("-{line}\r\n").bytes()),
            Reply::Bulk(bytes) => {
                wire.extend(format!("${}\r\n", bytes.len()).bytes());
                wire.extend(bytes);
                wire.extend(b"\r\n");
            }
            Reply::Array(items) => {
                wire.extend(format!("*{}\r\n", items.len()).bytes());
                items.iter().for_each(|item| item.encode_into(wire));
            }
        }
    }

    /// Reads one reply, or one command (see [`Reply::command`]).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnexpectedEof`] when the connection ends before the reply does, [`ErrorKind::InvalidData`] when the
    /// bytes are not the protocol, and whatever the connection itself reports.
    ///
    /// # Cancellation
    ///
    /// A future that is dropped halfway has read a part of the reply. The connection is then of no more use.
    pub async fn read(from: &mut (impl AsyncBufRead + Unpin + Send)) -> io::Result<Reply> {
        read_nested(from, DEEPEST).await
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Nil => f.write_str("Nil"),
            Reply::Int(number) => write!(f, "Int({number})"),
            Reply::Bulk(bytes) => write!(f, "Bulk(\"{}\")", bytes.escape_ascii()),
            Reply::Status(line) => write!(f, "Status({line:?})"),
            Reply::Error(line) => write!(f, "Error({line:?})"),
            Reply::Array(items) => f.debug_tuple("Array").field(items).finish(),
        }
    }
}

type Reading<'a> = Pin<Box<dyn Future<Output = io::Result<Reply>> + Send + 'a>>;

fn read_nested<'a>(from: &'a mut (impl AsyncBufRead + Unpin + Send), depth: usize) -> Reading<'a> {
    Box::pin(async move {
        let line = read_line(from).await?;
        let mut rest = line.chars();
        let kind = rest.next();
        let rest = rest.as_str();
        match kind {
            Some('+') => Ok(Reply::Status(rest.to_owned())),
            Some('-') => Ok(Reply::Error(rest.to_owned())),
            Some(':') => number(rest).map(Reply::Int),
            Some('$' | '*') if rest == "-1" => Ok(Reply::Nil),
            Some('$') => read_bulk(from, length(rest)?).await.map(Reply::Bulk),
            Some('*') if depth == 0 => Err(garbage("arrays nested too deeply")),
            Some('*') => {
                let mut items = Vec::new();
                for _ in 0..length(rest)? {
                    items.push(read_nested(from, depth - 1).await?);
                }
                Ok(Reply::Array(items))
            }
            _ => Err(garbage("an unknown type of reply")),
        }
    })
}

async fn read_line(from: &mut (impl AsyncBufRead + Unpin + Send)) -> io::Result<String> {
    let mut line = Vec::new();
    from.take(LONGEST).read_until(b'\n', &mut line).await?;
    match line.strip_suffix(b"\r\n") {
        // An error line may quote bytes that a client sent, which need not be text.
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None if line.ends_with(b"\n") => Err(garbage("a line without a carriage return")),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}

async fn read_bulk(from: &mut (impl AsyncBufRead + Unpin + Send), length: u64) -> io::Result<Vec<u8>> {
    // The buffer grows with the bytes that arrive. So a corrupted length alone cannot claim memory.
    let mut bytes = Vec::new();
    from.take(length + 2).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 != length + 2 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    if !bytes.ends_with(b"\r\n") {
        return Err(garbage("a value longer than it says"));
    }
    bytes.truncate(bytes.len() - 2);
    Ok(bytes)
}

fn number(digits: &str) -> io::Result<i64> {
    digits.parse().map_err(|_| garbage("a number that is none"))
}

fn length(digits: &str) -> io::Result<u64> {
    match number(digits)?.try_into() {
        Ok(length) if length <= LONGEST => Ok(length),
        _ => Err(garbage("an impossible length")),
    }
}

fn garbage(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("not the Redis protocol: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut wire: &[u8]) -> Result<Reply, ErrorKind> {
        Reply::read(&mut wire).await.map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn every_reply_survives_the_wire() {
        let all = Reply::Array(vec![
            Reply::Nil,
            Reply::Int(-7),
            Reply::Bulk(vec![0, 13, 10, 255]),
            Reply::Bulk(Vec::new()),
            Reply::Status("OK".into()),
            Reply::Error("ERR no".into()),
            Reply::Array(vec![Reply::Array(Vec::new())]),
        ]);
        assert_eq!(read(&all.encode()).await, Ok(all));
        assert_eq!(read(b"*-1\r\n").await, Ok(Reply::Nil));
    }

    #[tokio::test]
    async fn every_prefix_of_a_reply_is_an_early_end() {
        let wire = Reply::command(&["SET", "key", "\r\n"]).encode();
        for end in 0..wire.len() {
            assert_eq!(read(&wire[..end]).await, Err(ErrorKind::UnexpectedEof), "after {end} bytes");
        }
    }

    #[tokio::test]
    async fn garbage_is_an_error() {
        let deep = b"*1\r\n".repeat(100_000);
        for wire in [
            b"\r\n".as_slice(),
            b"!\r\n",
            b":x\r\n",
            b"$-2\r\n",
            b"$2\r\nabcd",
            b"$99999999999999999999\r\n",
            b"+OK\n",
            &deep,
        ] {
            assert_eq!(read(wire).await, Err(ErrorKind::InvalidData), "{}", wire.escape_ascii());
        }
    }
}
