//! [`Asked`]: one Sentinel, and the connection to it.

use super::majority::Said;
use crate::connector::credentials::Login;
use crate::connector::redis::options::{Address, SentinelOptions};
use crate::connector::redis::wire::connect::Driver;
use crate::connector::redis::wire::connection::{Connection, Identity};
use crate::connector::redis::wire::dial::Dialer;
use crate::connector::redis::wire::replies::{text, unexpected};
use crate::connector::remote::{Trouble, What};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, RedisConnectionInfo, Value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One Sentinel.
pub(super) struct Asked {
    pub(super) address: Address,
    /// The connection that the last question was answered on. Whoever asks takes it, and puts it back with the answer. So one that is out
    /// of step is never used again.
    held: Mutex<Option<Held>>,
    /// Whether the last question had no answer, which was logged.
    silent: AtomicBool,
}

struct Held {
    connection: Connection,
    _driver: Driver,
}

impl Asked {
    pub(super) fn new(address: Address) -> Self {
        Self { address, held: Mutex::default(), silent: AtomicBool::new(false) }
    }

    /// Asks which server is the master.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the connection is closed.
    pub(super) async fn ask(&self, dialer: &Dialer, options: &SentinelOptions) -> Result<Said, Trouble> {
        let held = self.held.lock().take();
        if let Some(held) = held
            && let Ok(said) = self.ask_on(held, &options.master).await
        {
            return Ok(said);
        }
        // There was no connection, or it has ended since: a Sentinel was restarted.
        let asked = async {
            let connected = self.connect(dialer, options).await?;
            self.ask_on(connected, &options.master).await
        };
        asked.await.map_err(|trouble| explained(trouble, dialer.is_plain_tcp(&self.address)))
    }

    /// Logs when a Sentinel falls silent, and when it answers again.
    pub(super) fn tell(&self, options: &SentinelOptions, answer: Result<(), &Trouble>) {
        let was_silent = self.silent.swap(answer.is_err(), Ordering::Relaxed);
        let (sentinel, master) = (&self.address, &options.master);
        match answer {
            Err(trouble) if !was_silent => {
                tracing::warn!(%sentinel, %master, "a Sentinel does not say which server is the master: {trouble}");
            }
            Ok(()) if was_silent => tracing::info!(%sentinel, %master, "a Sentinel answers again"),
            _ => {}
        }
    }

    async fn connect(&self, dialer: &Dialer, options: &SentinelOptions) -> Result<Held, Trouble> {
        let login = Login::now(options.username.as_deref(), options.password.as_ref(), None).await?;
        let socket = dialer.dial(&self.address).await?;
        // RESP2, and no database: a Sentinel has none. It is told larder's name also because with TLS 1.3 a server refuses the client's certificate
        // after the handshake: only a request that is on its way gets that error.
        let info = RedisConnectionInfo::default().set_lib_name("larder", env!("CARGO_PKG_VERSION"));
        let limits = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let (stream, driver) = MultiplexedConnection::new_with_config(&info, socket, limits).await?;
        let connection = Connection::new(stream, Identity::default(), None);
        let held = Held { connection, _driver: Driver::begin(driver) };
        if let Some(password) = &login.password {
            let mut auth = redis::cmd("AUTH");
            if let Some(username) = &login.username {
                auth.arg(username);
            }
            held.connection.send(auth.arg(password.expose())).await?;
        }
        Ok(held)
    }

    async fn ask_on(&self, held: Held, master: &str) -> Result<Said, Trouble> {
        let mut commands = Pipeline::with_capacity(2);
        // The epoch is asked for first. If the failover ends in between, an old epoch stands beside the new address, and is outvoted. The
        // other way round, the new epoch would vouch for the old address.
        commands.cmd("SENTINEL").arg("MASTER").arg(master);
        commands.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        let mut replies = held.connection.send_all(&commands).await?.into_iter();
        let (Some(known), Some(address)) = (replies.next(), replies.next()) else {
            return Err(unexpected("SENTINEL"));
        };
        if let Value::ServerError(error) = &known
            && error.details().is_some_and(|text| text.starts_with("No such"))
        {
            return Err(unknown(&held.connection, master).await);
        }
        let said = said(&known.extract_error()?, &address.extract_error()?).ok_or_else(|| unexpected("SENTINEL"))?;
        *self.held.lock() = Some(held);
        Ok(said)
    }
}

/// Reads the answers to `SENTINEL MASTER` and `SENTINEL GET-MASTER-ADDR-BY-NAME`.
fn said(known: &Value, address: &Value) -> Option<Said> {
    let texts = |reply: &Value| match reply {
        Value::Array(items) => items.iter().cloned().map(text).collect::<Option<Vec<String>>>(),
        _ => None,
    };
    let known = texts(known)?;
    let (fields, _) = known.as_chunks::<2>();
    let field = |name: &str| fields.iter().find(|[field, _]| field == name).map(|[_, value]| value);
    let address = texts(address)?;
    let [host, port] = address.as_slice() else { return None };
    // While a failover ends, the address is that of the promoted server already, and the rest is still about the old master.
    let is_about_it = field("ip") == Some(host) && field("port") == Some(port);
    let since = field("role-reported-time").filter(|_| is_about_it).and_then(|time| time.parse().ok());
    Some(Said {
        address: Address::Tcp { host: host.clone(), port: port.parse().ok()? },
        epoch: field("config-epoch")?.parse().ok()?,
        since: since.map(Duration::from_millis).unwrap_or_default(),
    })
}

/// The error for a name that the Sentinel does not know.
async fn unknown(connection: &Connection, master: &str) -> Trouble {
    let mut all = redis::cmd("SENTINEL");
    all.arg("MASTERS");
    let names = match connection.send(&all).await {
        Ok(Value::Array(masters)) => masters.into_iter().filter_map(name).collect(),
        _ => Vec::new(),
    };
    let known = if names.is_empty() { "watches none".to_owned() } else { format!("watches {}", names.join(", ")) };
    Trouble::Error {
        what: What::Refused,
        text: format!("it knows no master called `{master}`, and {known}: correct `master`, or give other Sentinels"),
    }
}

/// The name of a master, in quotes.
fn name(master: Value) -> Option<String> {
    let Value::Array(fields) = master else { return None };
    let mut fields = fields.into_iter().map(text);
    fields.find(|field| field.as_deref() == Some("name"))?;
    Some(format!("`{}`", fields.next()??))
}

/// The same trouble, with what to change in the options of the Sentinels.
fn explained(trouble: Trouble, is_plain: bool) -> Trouble {
    let Trouble::Error { what, text } = trouble else { return trouble };
    let refused = |hint: &str| (What::Refused, format!("{text}: {hint}"));
    let (what, text) = if text.contains("unknown command") {
        refused(
            "this is a server, and no Sentinel: give the Sentinels as `hosts`, or the server as `address` without `sentinel`",
        )
    } else if text.contains("without any password configured") {
        refused("the Sentinel has no password: remove `password` of `sentinel`")
    } else if text.contains("NOAUTH") {
        refused("the Sentinel wants a password: give `password` of `sentinel`")
    } else if text.contains("WRONGPASS") {
        refused("correct `username` and `password` of `sentinel`, which are not those of the servers")
    } else if what == What::Forbidden {
        refused(
            "grant this user `+sentinel|master +sentinel|masters +sentinel|get-master-addr-by-name` on the Sentinel",
        )
    } else if what == What::Broken && is_plain {
        (what, format!("{text}; if this is a port for TLS, give `tls: true` under `sentinel`"))
    } else {
        (what, text)
    };
    Trouble::Error { what, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Value {
        Value::Array(texts.iter().map(|text| Value::BulkString(text.as_bytes().to_vec())).collect())
    }

    fn known(port: &str) -> Value {
        list(&["name", "m", "ip", "10.0.0.1", "port", port, "role-reported-time", "7000", "config-epoch", "3"])
    }

    #[test]
    fn an_answer_says_address_epoch_and_since_when() {
        let answer = said(&known("6379"), &list(&["10.0.0.1", "6379"])).unwrap();
        assert_eq!((answer.address.to_string().as_str(), answer.epoch), ("10.0.0.1:6379", 3));
        assert_eq!(answer.since, Duration::from_secs(7));
    }

    /// The first Sentinel to know names the promoted server while its record is still that of the old master, which it has known for long.
    #[test]
    fn what_is_known_of_the_old_master_says_nothing_of_the_promoted_server() {
        let answer = said(&known("6379"), &list(&["10.0.0.1", "6380"])).unwrap();
        assert_eq!((answer.address.to_string().as_str(), answer.since), ("10.0.0.1:6380", Duration::ZERO));
    }

    #[test]
    fn an_answer_of_another_shape_is_none() {
        for (master, address) in [
            (Value::Nil, list(&["10.0.0.1", "6379"])),
            (known("6379"), Value::Nil),
            (known("6379"), list(&["10.0.0.1"])),
            (known("6379"), list(&["10.0.0.1", "port"])),
            (list(&["name"]), list(&["10.0.0.1", "6379"])),
            (list(&["config-epoch", "high"]), list(&["10.0.0.1", "6379"])),
        ] {
            assert_eq!(said(&master, &address), None);
        }
    }
}
