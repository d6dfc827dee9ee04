//! A server that is nobody's: it speaks MessagePack over a Unix socket, one request after the other, and keeps objects as the contract says, on a
//! [`Shelf`]. A test can cut everybody off from it and let them in again.

use larder::clock::Clock;
use larder::contract::{Answer, Connector, KeyBuf, KeyRef, Object, Schema, Stored, issue_ticket};
use larder_testing::entries::Site;
use larder_testing::reference::{Reference, Shelf};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::task::{JoinHandle, JoinSet};

/// A key: the place of its index, and its bytes.
pub(crate) type Key = (u8, Vec<u8>);

/// Epoch and sequence.
pub(crate) type Stamp = (u64, u64);

/// What is asked of a cache.
#[derive(Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) cache: String,
    pub(crate) fingerprint: u64,
    pub(crate) ages: [Duration; 2],
    pub(crate) ask: Ask,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Answered by `Reply::Found`, with a ticket.
    Get(Key),
    /// Where the clock stands.
    Clock,
    Store {
        /// Or else it is a fill.
        put: bool,
        keys: Vec<Key>,
        version: Option<u64>,
        bytes: Vec<u8>,
        ticket: Option<Stamp>,
    },
    Invalidate(Vec<Key>, Option<u64>),
    Delete(Vec<Key>),
    Truncate,
    Prune,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Reply {
    /// An object, or whether it has expired; and where the clock stands.
    Found(Result<Vec<u8>, bool>, Stamp),
    /// What became of an object, by its place in [`OUTCOMES`]; and where the clock stands.
    Stored(usize, Stamp),
    /// It is done; and where the clock stands.
    Done(Stamp),
    Pruned(u64),
}

pub(crate) const OUTCOMES: [Stored; 3] = [Stored::Accepted, Stored::Overtaken, Stored::Outdated];

pub(crate) struct ToyServer {
    shelf: Shelf,
    folder: tempfile::TempDir,
    listening: Option<JoinHandle<()>>,
}

impl ToyServer {
    pub(crate) fn start(clock: Clock) -> Self {
        let (shelf, folder) = (Shelf::new(clock), tempfile::tempdir().unwrap());
        let mut server = Self { shelf, folder, listening: None };
        server.let_in();
        server
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("toy")
    }

    /// Ends all connections and takes no more; what is stored stays.
    pub(crate) async fn cut_off(&mut self) {
        std::fs::remove_file(self.socket()).unwrap();
        if let Some(listening) = self.listening.take() {
            listening.abort();
            let _ = listening.await;
        }
    }

    pub(crate) fn let_in(&mut self) {
        let (listener, shelf) = (UnixListener::bind(self.socket()).unwrap(), self.shelf.clone());
        self.listening = Some(tokio::spawn(async move {
            // Ended together with this task.
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let shelf = shelf.clone();
                connections.spawn(async move {
                    while let Some(request) = receive(&mut stream).await {
                        if send(&mut stream, &answer(&shelf, request)).await.is_none() {
                            return;
                        }
                    }
                });
            }
        }));
    }
}

impl Drop for ToyServer {
    fn drop(&mut self) {
        self.listening.iter().for_each(JoinHandle::abort);
    }
}

fn answer(shelf: &Shelf, Request { cache, fingerprint, ages, ask }: Request) -> Reply {
    let [max_age, last_use_age] = ages;
    let schema = Schema::of::<Site>().named(cache).with_fingerprint(fingerprint).ages(max_age, last_use_age);
    let store = Reference::open(schema, shelf);
    let owned = |keys: Vec<Key>| keys.into_iter().map(|(index, bytes)| KeyBuf { index, bytes: bytes.into() }).collect();
    match ask {
        Ask::Get((index, bytes)) => {
            let stamp = stamp(&store);
            Reply::Found(
                match at_once(store.get(KeyRef { index, bytes: &bytes })) {
                    Ok(value) => Ok(value.downcast_ref::<Vec<u8>>().unwrap().clone()),
                    Err(miss) => Err(miss == larder::Miss::Expired),
                },
                stamp,
            )
        }
        Ask::Clock => Reply::Done(stamp(&store)),
        Ask::Store { put, keys, version, bytes, ticket } => {
            let mut keys: Vec<KeyBuf> = owned(keys);
            let primary = keys.remove(0).bytes;
            let object = Object::new(primary, keys, version, Arc::new(bytes));
            let ticket = ticket.map(|(epoch, sequence)| issue_ticket(epoch, sequence));
            let stored = match ticket {
                Some(ticket) if !put => at_once(store.fill(object, ticket)).stored,
                ticket => at_once(store.put(object, ticket)),
            };
            Reply::Stored(OUTCOMES.iter().position(|outcome| *outcome == stored).unwrap(), stamp(&store))
        }
        Ask::Invalidate(keys, floor) => {
            at_once(store.invalidate(owned(keys), floor)).unwrap();
            Reply::Done(stamp(&store))
        }
        Ask::Delete(keys) => {
            at_once(store.delete(owned(keys))).unwrap();
            Reply::Done(stamp(&store))
        }
        Ask::Truncate => {
            at_once(store.truncate()).unwrap();
            Reply::Done(stamp(&store))
        }
        Ask::Prune => Reply::Pruned(at_once(store.prune()).unwrap().objects),
    }
}

fn stamp(store: &Reference) -> Stamp {
    let ticket = at_once(store.ticket()).unwrap();
    (ticket.epoch(), ticket.sequence())
}

fn at_once<T>(answer: Answer<'_, T>) -> T {
    match answer {
        Answer::Now(Some(result)) => result,
        _ => panic!("the reference answers at once"),
    }
}

/// A message, after its length.
pub(crate) async fn send(stream: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> Option<()> {
    let bytes = rmp_serde::to_vec(message).ok()?;
    stream.write_u32(u32::try_from(bytes.len()).ok()?).await.ok()?;
    stream.write_all(&bytes).await.ok()
}

pub(crate) async fn receive<T: for<'a> Deserialize<'a>>(stream: &mut (impl AsyncRead + Unpin)) -> Option<T> {
    let mut bytes = vec![0; stream.read_u32().await.ok()? as usize];
    stream.read_exact(&mut bytes).await.ok()?;
    rmp_serde::from_slice(&bytes).ok()
}

/// Where a server listens.
pub(crate) fn name(socket: &Path) -> String {
    format!("toy://{}", socket.display())
}
