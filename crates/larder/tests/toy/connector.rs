//! A connector for the toy server: what it takes beyond `larder::connector::remote`.

use crate::server::{Ask, Key, OUTCOMES, Reply, Request, Stamp, name, receive, send};
use larder::clock::Clock;
use larder::connector::remote::{
    Batch, Channel, Clearing, Clocked, Connected, Forgetting, Link, RemoteCache, Server, ServerKind, ServerOptions,
    Trouble, WhenCrowded,
};
use larder::contract::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Lookup, Miss, Object, OptionError, Pruned, Schema,
    Status, Stored, Ticket, Value, issue_ticket,
};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

/// Requests on their way to the task that has the socket: so who stops waiting for a reply leaves nobody out of step.
pub(crate) struct Connection(mpsc::UnboundedSender<(Request, oneshot::Sender<Reply>)>);

impl Connection {
    async fn ask(&self, request: Request) -> Result<Reply, Trouble> {
        let (asked, reply) = oneshot::channel();
        self.0.send((request, asked)).map_err(|_| Trouble::broken("the connection has ended"))?;
        reply.await.map_err(|_| Trouble::broken("the connection has ended"))
    }
}

/// How larder talks to a toy server.
pub(crate) struct Toy {
    socket: PathBuf,
    name: String,
}

/// What a request says of its cache.
pub(crate) struct Cached(Schema);

impl Cached {
    fn request(&self, ask: Ask) -> Request {
        let Self(schema) = self;
        let ages = [schema.max_age(), schema.last_use_age()];
        Request { cache: schema.cache().to_owned(), fingerprint: schema.fingerprint(), ages, ask }
    }
}

fn unexpected() -> Trouble {
    Trouble::fault("the reply has not the expected shape")
}

fn ticket((epoch, sequence): Stamp) -> Ticket {
    issue_ticket(epoch, sequence)
}

/// Sends what is answered by the clock alone.
async fn change(channel: &Channel<'_, Toy>, cache: &Cached, ask: Ask) -> Result<Ticket, Trouble> {
    match channel.run(|connection| async move { connection.ask(cache.request(ask)).await }).await? {
        Reply::Done(stamp) => Ok(ticket(stamp)),
        _ => Err(unexpected()),
    }
}

fn keys<'a>(keys: impl IntoIterator<Item = KeyRef<'a>>) -> Vec<Key> {
    keys.into_iter().map(|key| (key.index, key.bytes.to_vec())).collect()
}

impl ServerKind for Toy {
    type Connection = Connection;
    type Local = Cached;

    fn name(&self) -> &str {
        &self.name
    }

    async fn connect(&self, _: &Clock) -> Result<Connected<Connection>, Trouble> {
        let mut stream = UnixStream::connect(&self.socket).await.map_err(|error| Trouble::broken(error.to_string()))?;
        let (requests, mut waiting) = mpsc::unbounded_channel::<(Request, oneshot::Sender<Reply>)>();
        let ended = Box::pin(async move {
            while let Some((request, asked)) = waiting.recv().await {
                if send(&mut stream, &request).await.is_none() {
                    break;
                }
                let Some(reply) = receive(&mut stream).await else { break };
                let _ = asked.send(reply);
            }
            "the server closed it"
        });
        // A shelf lives as long as its server.
        Ok(Connected { connection: Connection(requests), history: 1, ended })
    }

    async fn heartbeat(&self, link: &Link<Self>, _: &Connection, _: &[Arc<RemoteCache<Self>>]) -> Option<&'static str> {
        let any = Request { cache: String::new(), fingerprint: 0, ages: Default::default(), ask: Ask::Clock };
        let _ = link.beat(|connection| async move { connection.ask(any).await }).await;
        None
    }

    async fn read_clock(&self, channel: &Channel<'_, Self>, cache: &Cached) -> Result<Clocked, Trouble> {
        let now = change(channel, cache, Ask::Clock).await?;
        Ok(Clocked { epoch: now.epoch(), sequence: now.sequence(), settled: true, history: 1, registered: true })
    }

    async fn clear(
        &self,
        channel: &Channel<'_, Self>,
        cache: &Cached,
        _: u64,
        _: Clearing,
    ) -> Result<Option<Clocked>, Trouble> {
        change(channel, cache, Ask::Truncate).await?;
        self.read_clock(channel, cache).await.map(Some)
    }

    async fn forget(
        &self,
        channel: &Channel<'_, Self>,
        cache: &Cached,
        batches: &[Batch<'_>],
        answers: &mut Vec<Result<Option<Ticket>, Trouble>>,
    ) -> Result<(), Trouble> {
        for batch in batches {
            let all = keys(batch.keys().iter().map(|key| key.as_ref()));
            let at = match batch.what() {
                Forgetting::Delete => change(channel, cache, Ask::Delete(all)).await?,
                Forgetting::Invalidate { floors } => {
                    for (key, floor) in all.iter().zip(floors).filter(|(_, floor)| **floor > 0) {
                        change(channel, cache, Ask::Invalidate(vec![key.clone()], Some(*floor))).await?;
                    }
                    change(channel, cache, Ask::Invalidate(all, None)).await?
                }
            };
            answers.push(Ok(Some(at)));
        }
        Ok(())
    }
}

/// One cache on a toy server.
pub(crate) struct ToyConnector(Arc<RemoteCache<Toy>>);

/// Connects to a toy server.
pub(crate) fn open(socket: PathBuf, options: ServerOptions) -> Server<Toy> {
    let toy = Toy { name: name(&socket), socket };
    Server::open("toy", toy, options, Clock::system(), &tokio::runtime::Handle::current()).unwrap()
}

impl ToyConnector {
    pub(crate) fn open(server: &Server<Toy>, schema: Schema) -> Result<Self, OptionError> {
        Ok(Self(server.cache(schema.clone(), Cached(schema))?))
    }

    async fn look_up(&self, key: KeyRef<'_>) -> Lookup {
        let cache = &self.0;
        let before = cache.trusted();
        let ask = cache.local().request(Ask::Get((key.index, key.bytes.to_vec())));
        let sent = cache.link().operation(WhenCrowded::Shed, |on| async move { on.ask(ask).await });
        match sent.await {
            Ok(Reply::Found(found, stamp)) if before.is_some() && cache.trusted() == before => {
                cache.saw(ticket(stamp));
                let found = found.map_err(|expired| if expired { Miss::Expired } else { Miss::Absent });
                let decoded =
                    found.and_then(|bytes| cache.schema().codec().decode(&bytes).map_err(|_| Miss::Undecodable));
                Lookup::of(decoded, Some(ticket(stamp)))
            }
            Ok(Reply::Found(..)) => Lookup::miss(Miss::Distrusted, None),
            Ok(_) => Lookup::miss(cache.miss(&unexpected()), None),
            Err(trouble) => Lookup::miss(cache.miss(&trouble), None),
        }
    }

    /// Sends an object, where it can be stored at all.
    async fn send(&self, put: bool, object: &Object, taken: Option<Ticket>) -> Result<Fill, Trouble> {
        let cache = &self.0;
        let bytes = cache.schema().codec().encode(&object.value).ok();
        let Some(bytes) = bytes.filter(|bytes| bytes.len() as u64 <= cache.schema().largest_object()) else {
            return Ok(Fill::undated(Stored::Unfit));
        };
        cache.trusted().ok_or(Trouble::Unavailable)?;
        let taken = taken.map(|ticket| (ticket.epoch(), ticket.sequence()));
        let ask = Ask::Store { put, keys: keys(object.keys()), version: object.version, bytes, ticket: taken };
        let (ask, crowded) = (cache.local().request(ask), if put { WhenCrowded::Wait } else { WhenCrowded::Shed });
        match cache.link().operation(crowded, |on| async move { on.ask(ask).await }).await? {
            Reply::Stored(outcome, stamp) => {
                cache.saw(ticket(stamp));
                let stored = OUTCOMES.get(outcome).copied().ok_or_else(unexpected)?;
                Ok(Fill::at(stored, ticket(stamp)))
            }
            _ => Err(unexpected()),
        }
    }
}

impl Connector for ToyConnector {
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        let look = self.lookup(key);
        Answer::later(async move {
            match look.await {
                Lookup::Hit { value, .. } => Ok(value),
                Lookup::Miss { cause, .. } => Err(cause),
            }
        })
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        match self.0.admit() {
            Ok(()) => Answer::later(self.look_up(key)),
            Err(miss) => Answer::now(Lookup::miss(miss, None)),
        }
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        Answer::later(async move {
            self.0.may_read().ok()?;
            change(&Channel::Shared(self.0.link()), self.0.local(), Ask::Clock).await.ok()
        })
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        Answer::later(async move {
            let sent = match self.0.may_read() {
                Ok(()) => self.send(false, &object, Some(ticket)).await,
                Err(_) => Err(Trouble::Unavailable),
            };
            sent.unwrap_or_else(|trouble| Fill::undated(self.0.not_stored(&trouble)))
        })
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        Answer::later(async move {
            let (guards, connection) = (self.0.guards(&object), self.0.link().generation());
            let sent = self.send(true, &object, ticket).await;
            self.0.settle(connection, guards, sent).await
        })
    }

    fn set(&self, object: Object) -> Answer<'_, Stored> {
        Answer::later(async move {
            let (guards, connection) = (self.0.guards(&object), self.0.link().generation());
            let ticket = self.ticket().await;
            let sent = self.send(true, &object, ticket).await;
            self.0.settle(connection, guards, sent).await
        })
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        self.0.invalidate(keys, floor)
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        self.0.delete(keys)
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        self.0.truncate()
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        Answer::later(async move {
            let ask = self.0.local().request(Ask::Prune);
            match self.0.link().operation(WhenCrowded::Wait, |on| async move { on.ask(ask).await }).await {
                Ok(Reply::Pruned(objects)) => Ok(Pruned::new(objects, 0)),
                other => {
                    let reason = other.err().unwrap_or_else(unexpected).to_string();
                    Err(Error::Unavailable { cache: self.0.schema().cache().into(), reason })
                }
            }
        })
    }

    fn status(&self) -> Status {
        self.0.status()
    }
}
