//! Makes a connection to a server, and finds out whether the server serves, and which server it is.

use super::bell::Bell;
use super::caller::{Caller, Direct};
use super::confirming::{self, Confirming};
use super::connection::{Connection, Identity};
use super::dial::{Dialer, PERHAPS_TLS, Socket};
use super::login::Renewed;
use super::replies::{field, text, tolerated, version};
use super::rights;
use crate::clock::Clock;
use crate::connector::credentials::Login;
use crate::connector::redis::options::RedisOptions;
use crate::connector::remote::{Awaited, Trouble, What};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError, Value,
};
use std::future::Future;
use std::sync::Arc;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

/// Commands that may wait to be written: room for a burst, not for an outage.
const WRITE_QUEUE: usize = 1024;

/// The oldest version of Redis whose scripts can remove objects and write fences while the server is out of memory.
const OLDEST: (u32, u32) = (7, 0);

/// How connections to a server are made, and who logs in on them.
struct Way<'a> {
    config: &'a RedisOptions,
    dialer: &'a Dialer,
    login: &'a Login,
    /// Gets each message on a channel that was subscribed to.
    bell: Option<Arc<Bell>>,
}

/// Connects to the server at the options' address, and makes sure that the server serves. Returns the connection, and the task that drives it.
/// `spare` begins names of keys that belong to no cache (`<spare>::r`), and that this server must serve.
pub(crate) async fn reach(
    config: &RedisOptions,
    dialer: &Dialer,
    spare: &str,
    clock: &Clock,
) -> Result<(Connection, Driver), Trouble> {
    let within = config.connect_timeout;
    let late = || Trouble::TimedOut(Awaited::Connection);
    let asked = Instant::now();
    let login = Login::now(config.username.as_deref(), config.password.as_ref(), config.provider.as_ref());
    let login = tokio::time::timeout(within, login).await.map_err(|_| late()).flatten()?;
    let way = Way { config, dialer, login: &login, bell: None };
    let in_time = async |connecting| tokio::time::timeout(within, connecting).await.map_err(|_| late()).flatten();
    let (stream, mut driver) = in_time(connect(&way)).await?;
    let greeting = Arc::new(Connection::new(stream.clone(), Identity::default(), None));
    let caller = Direct { connection: &greeting, within };
    let mut identity = greet(&caller, config).await?;
    identity.missing = rights::try_out(&caller, spare).await?;
    if let Some(renewal) = dialer.renewal() {
        renewal.warn(clock.now());
    }
    let bare = |stream: &MultiplexedConnection| Connection::new(stream.clone(), Identity::default(), None);
    let renewed = |streams: &[&MultiplexedConnection]| {
        Renewed::begin(config, streams.iter().map(|stream| bare(stream)).collect(), &login, asked)
    };
    if config.wait_replicas == 0 {
        let renewed = renewed(&[&stream]);
        return Ok((Connection::new(stream, identity, None).with_login(renewed), driver));
    }
    let (second, second_driver) = in_time(connect(&way)).await?;
    let other = Arc::new(Connection::new(second.clone(), Identity::default(), None));
    let other_identity = greet(&Direct { connection: &other, within }, config).await?;
    let prepare = async {
        confirming::same_server(spare, (&greeting, &identity), (&other, &other_identity)).await?;
        // If this user may not run WAIT, larder finds out here, and not with the first invalidation.
        let mut wait = redis::cmd("WAIT");
        wait.arg(0).arg(1);
        other.send(&wait).await
    };
    tokio::time::timeout(within, prepare).await.map_err(|_| late()).flatten()?;
    let renewed = renewed(&[&stream, &second]);
    let confirming = Confirming::begin(second, config, spare, clock.clone());
    driver.second = Some(Box::new(second_driver));
    Ok((Connection::new(stream, identity, Some(confirming)).with_login(renewed), driver))
}

/// Connects to the server, asks one question, and hangs up.
pub(crate) async fn ask(config: &RedisOptions, dialer: &Dialer, question: &Cmd) -> Result<Value, Trouble> {
    let asked = async {
        let login = Login::now(config.username.as_deref(), config.password.as_ref(), config.provider.as_ref()).await?;
        let (stream, _driver) = connect(&Way { config, dialer, login: &login, bell: None }).await?;
        Connection::new(stream, Identity::default(), None).send(question).await
    };
    tokio::time::timeout(config.connect_timeout, asked).await.unwrap_or(Err(Trouble::TimedOut(Awaited::Connection)))
}

/// Connects to the server, and gives each message on this channel to the bell, as long as the driver lives. The connection carries nothing else: a
/// server that ends a subscription by itself says so in a way that redis-rs takes for the reply to whatever was sent.
pub(crate) async fn subscribe(
    config: &RedisOptions,
    dialer: &Dialer,
    channel: &str,
    bell: Arc<Bell>,
) -> Result<(Connection, Driver), Trouble> {
    let subscribed = async {
        let login = Login::now(config.username.as_deref(), config.password.as_ref(), config.provider.as_ref()).await?;
        let way = Way { config, dialer, login: &login, bell: Some(bell) };
        let (stream, driver) = handshake(&way, ProtocolVersion::RESP3).await?;
        let connection = Connection::new(stream, Identity::default(), None);
        let mut subscribe = redis::cmd("SSUBSCRIBE");
        subscribe.arg(channel);
        connection.send(&subscribe).await?;
        Ok((connection, driver))
    };
    tokio::time::timeout(config.connect_timeout, subscribed)
        .await
        .unwrap_or(Err(Trouble::TimedOut(Awaited::Connection)))
}

/// The task that reads and writes the socket. The task ends when the connection ends, and the connection ends with the task.
pub(crate) struct Driver {
    task: tokio::task::JoinHandle<()>,
    /// In strict mode, the driver of the connection for WAIT.
    second: Option<Box<Driver>>,
}

impl Driver {
    /// Begins to drive a connection.
    pub(crate) fn begin(driver: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { task: tokio::spawn(driver), second: None }
    }

    /// Waits until either connection has ended.
    pub(crate) async fn ended(&mut self) {
        match &mut self.second {
            None => drop((&mut self.task).await),
            Some(second) => tokio::select! {
                _ = &mut self.task => {}
                _ = &mut second.task => {}
            },
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(way: &Way<'_>) -> Result<(MultiplexedConnection, Driver), Trouble> {
    match handshake(way, ProtocolVersion::RESP3).await {
        // A server, or a proxy, that does not know HELLO may be in good health: it speaks RESP2 only.
        Err(trouble) if matches!(trouble.what(), Some(What::Fault | What::Forbidden)) => {
            handshake(way, ProtocolVersion::RESP2).await
        }
        other => other,
    }
}

async fn handshake(way: &Way<'_>, protocol: ProtocolVersion) -> Result<(MultiplexedConnection, Driver), Trouble> {
    let socket = way.dialer.dial(&way.config.address).await?;
    multiplex(way, protocol, socket).await
}

async fn multiplex(
    way: &Way<'_>,
    protocol: ProtocolVersion,
    socket: Socket,
) -> Result<(MultiplexedConnection, Driver), Trouble> {
    let mut info = RedisConnectionInfo::default()
        .set_protocol(protocol)
        .set_db(i64::from(way.config.database))
        .set_lib_name("larder", env!("CARGO_PKG_VERSION"));
    if let Some(username) = &way.login.username {
        info = info.set_username(username);
    }
    if let Some(password) = &way.login.password {
        info = info.set_password(password.expose());
    }
    let mut options = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(WRITE_QUEUE);
    if let Some(bell) = &way.bell {
        let bell = bell.clone();
        options = options.set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::SMessage {
                match push.data.into_iter().nth(1) {
                    Some(Value::BulkString(message)) => bell.say(message),
                    _ => bell.ring(),
                }
            }
            Ok::<(), redis::aio::SendError>(())
        });
    }
    match MultiplexedConnection::new_with_config(&info, socket, options).await {
        Ok((connection, driver)) => Ok((connection, Driver::begin(driver))),
        // A server that expects TLS closes the connection, or answers with an alert.
        Err(error) if knows_no_databases(&error) => Err(unusable(NO_DATABASES.to_owned())),
        Err(error)
            if way.dialer.is_plain_tcp(&way.config.address)
                && matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse) =>
        {
            Err(Trouble::broken(format!("{error}; {PERHAPS_TLS}")))
        }
        Err(error) => Err(error.into()),
    }
}

const SENTINEL: &str = "this is a Sentinel, and not the server that it watches: give it among the `hosts` of `sentinel`, with the name of \
                        the `master`";

const CLUSTER: &str =
    "this server is a node of a cluster: give `cluster: []`, or a URL that begins with `redis-cluster://`";

/// What to do with a server that is configured as a cluster, and is none.
pub(crate) const NO_CLUSTER: &str = "this server is no node of a cluster: give it as `address`, without `cluster`";

const NO_DATABASES: &str = "the server has no databases (it does not know SELECT): give database 0, or, if this is a Sentinel, give it \
                            among the `hosts` of `sentinel`, with the name of the `master`";

/// Whether a server answers so to SELECT. A Sentinel does.
fn knows_no_databases(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default().to_ascii_lowercase();
    detail.contains("unknown command") && detail.contains("select")
}

/// Makes sure that the server serves, runs scripts and is not too old. Returns which server it is.
async fn greet(caller: &Direct<'_>, config: &RedisOptions) -> Result<Identity, Trouble> {
    if let Some(name) = &config.client_name {
        let mut set = redis::cmd("CLIENT");
        set.arg("SETNAME").arg(name);
        // The name is only for people who look at the server. A server that does not know or allow the command serves all the same.
        tolerated(caller.call(&set).await)?;
    }
    match caller.call(&redis::cmd("PING")).await {
        // That PING is forbidden is an answer, too, and larder needs PING for nothing else.
        Err(trouble) if trouble.what() == Some(What::Forbidden) => {}
        answer => drop(answer?),
    }
    let server = info(caller, "server").await?;
    let mode = server.as_deref().and_then(|server| field(server, "redis_mode").or(field(server, "server_mode")));
    // A Sentinel runs no scripts: what it is says more than that error.
    if mode == Some("sentinel") {
        return Err(unusable(SENTINEL.to_owned()));
    }
    let mut canary = redis::cmd("EVAL");
    canary.arg("return 1").arg(0);
    match caller.call(&canary).await? {
        Value::Int(1) => {}
        other => return Err(Trouble::fault(format!("a script that returns 1 returned {other:?}"))),
    }
    let Some(server) = &server else {
        tracing::info!(server = %config.address, "the server does not answer INFO: larder recognises a restart by the server's clock only");
        return Ok(Identity::default());
    };
    if let Some(version) = field(server, "redis_version").and_then(version)
        && version < OLDEST
    {
        let (major, minor) = version;
        return Err(unusable(format!(
            "the server is Redis {major}.{minor}; larder needs {}.{} or later, or any Valkey",
            OLDEST.0, OLDEST.1
        )));
    }
    match mode {
        None => {}
        Some("standalone") if config.cluster.is_none() => {}
        Some("cluster") if config.cluster.is_some() => {}
        Some("standalone") => return Err(unusable(NO_CLUSTER.to_owned())),
        Some("cluster") => return Err(unusable(CLUSTER.to_owned())),
        Some(mode) => {
            return Err(unusable(format!("the server runs in {mode} mode, which larder does not know")));
        }
    }
    let replication = info(caller, "replication").await?.unwrap_or_default();
    let replication = field(&replication, "master_replid");
    Ok(Identity {
        history: history(field(server, "run_id"), replication),
        replication: replication.map(str::to_owned),
        missing: None,
    })
}

/// A number for the history of the server's data. 0: the server does not tell it.
///
/// A new history begins with a new process, because data that comes back from a snapshot is older. A new history also begins with a
/// new replication history, because a replica that was promoted, or filled anew by another master, may lack the last writes.
///
/// The number has 52 bits, because the scripts keep it as a double.
fn history(run: Option<&str>, replication: Option<&str>) -> u64 {
    let Some(run) = run else { return 0 };
    (xxh3_64(format!("{run} {}", replication.unwrap_or_default()).as_bytes()) >> 12).max(1)
}

async fn info(caller: &Direct<'_>, section: &str) -> Result<Option<String>, Trouble> {
    let mut info = redis::cmd("INFO");
    info.arg(section);
    Ok(tolerated(caller.call(&info).await)?.and_then(text))
}

/// The error for a server that larder cannot use until a person changes something.
fn unusable(text: String) -> Trouble {
    Trouble::Error { what: What::Refused, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_a_promotion_and_a_full_resynchronisation_are_other_histories() {
        let known = history(Some("run"), Some("replication"));
        assert_ne!(known, history(Some("another run"), Some("replication")));
        assert_ne!(known, history(Some("run"), Some("another replication")));
        assert_ne!(known, 0);
        assert_eq!(history(None, Some("replication")), 0);
    }
}
