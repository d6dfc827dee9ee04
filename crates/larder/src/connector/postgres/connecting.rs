//! Opens the sessions of a process: all of them on one server, which must be one that larder can keep its tables on.
//!
//! The hosts are tried in their order, and each by every address that its name has. A host that cannot be reached, or is a standby, is passed
//! over, whatever `target_session_attrs` says. Each host gets its share of `connect_timeout`, so that one that does not answer leaves time for the
//! others. All further sessions go to the address that the first one has reached: snapshots of two servers cannot be compared.

use super::connection::{column, config, unexpected};
use super::errors::trouble;
use super::options::PostgresOptions;
use super::tls::{Certificates, Connector, Mode, TlsError};
use crate::connector::remote::{Awaited, Trouble, What};
use std::error::Error;
use std::future::poll_fn;
use std::net::IpAddr;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, Notification};

/// The oldest major version that larder works with.
const OLDEST: i32 = 150_000;

/// Which servers will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// One that larder can keep its tables on.
    Primary,
    /// Whichever answers: somebody wants to know what it is.
    Any,
}

/// Opens the sessions, and the tasks that drive them. A task ends with its session.
pub(crate) async fn sessions(
    options: &PostgresOptions,
    certificates: &Certificates,
    whom: Whom,
) -> Result<(Vec<Client>, JoinSet<()>), Trouble> {
    open(options, certificates, options.connections, whom, None).await
}

/// Opens one session with a server that larder can keep its tables on. What the server notifies it of is sent to `heard`, and dropped where that is full.
pub(crate) async fn listening(
    options: &PostgresOptions,
    certificates: &Certificates,
    heard: Sender<Notification>,
) -> Result<(Client, JoinSet<()>), Trouble> {
    let (mut clients, tasks) = open(options, certificates, 1, Whom::Primary, Some(heard)).await?;
    Ok((clients.pop().ok_or_else(unexpected)?, tasks))
}

async fn open(
    options: &PostgresOptions,
    certificates: &Certificates,
    wanted: usize,
    whom: Whom,
    heard: Option<Sender<Notification>>,
) -> Result<(Vec<Client>, JoinSet<()>), Trouble> {
    let (whole, tls) = config(options).await?;
    let connector = tls.connector(certificates, &options.place()).await?;
    let attempt = Attempt { connector, mode: tls.mode, whom, heard };
    let places = Place::all(&whole);
    let share = options.connect_timeout / u32::try_from(places.len()).unwrap_or(u32::MAX).max(1);
    let mut failed = Vec::new();
    for place in &places {
        let reached = async {
            let mut last = Trouble::broken("its name has no address");
            for config in place.configs(&whole).await? {
                // Sessions with a server that is passed over end with their tasks.
                let mut tasks = JoinSet::new();
                match attempt.first(&config, &mut tasks).await {
                    Ok(first) => return Ok((first, tasks)),
                    Err(trouble) => last = trouble,
                }
            }
            Err(last)
        };
        let reached = if places.len() == 1 {
            reached.await
        } else {
            tokio::time::timeout(share, reached).await.unwrap_or(Err(Trouble::TimedOut(Awaited::Connection)))
        };
        match reached {
            Ok((first, tasks)) => return attempt.further(wanted, first, tasks).await,
            Err(trouble) => failed.push((place.to_string(), trouble)),
        }
    }
    Err(of_all(failed))
}

/// The troubles of all hosts as one. It is of the kind of the last.
fn of_all(mut failed: Vec<(String, Trouble)>) -> Trouble {
    let Some((_, last)) = failed.last() else { return Trouble::fault("no host was given") };
    if failed.len() == 1 {
        return failed.remove(0).1;
    }
    let what = last.what().unwrap_or(What::Broken);
    let text = failed.iter().map(|(place, trouble)| format!("{place}: {trouble}")).collect::<Vec<_>>().join("; ");
    Trouble::Error { what, text }
}

/// A host, or an address, of the options.
struct Place {
    host: Option<Host>,
    address: Option<IpAddr>,
    port: u16,
}

impl Place {
    fn all(config: &Config) -> Vec<Self> {
        let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
        let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        let place = |at| Self { host: hosts.get(at).cloned(), address: addresses.get(at).copied(), port: port(at) };
        let mut all: Vec<_> = (0..hosts.len().max(addresses.len())).map(place).collect();
        if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
            fastrand::shuffle(&mut all);
        }
        all
    }

    /// What to connect with, for each address of the host. The name stays beside the address: a certificate has to bear it.
    async fn configs(&self, whole: &Config) -> Result<Vec<Config>, Trouble> {
        let name = match (&self.host, self.address) {
            (Some(Host::Tcp(name)), None) => name,
            (Some(Host::Tcp(name)), Some(address)) => {
                return Ok(vec![one(whole, Some(name), Some(address), self.port)]);
            }
            (None, address) => return Ok(vec![one(whole, None, address, self.port)]),
            #[cfg(unix)]
            (Some(Host::Unix(path)), _) => {
                let mut config = one(whole, None, None, self.port);
                config.host_path(path);
                return Ok(vec![config]);
            }
        };
        let found = tokio::net::lookup_host((name.as_str(), self.port)).await;
        let unknown = |error| Trouble::broken(format!("host {name} cannot be found: {error}"));
        Ok(found.map_err(unknown)?.map(|address| one(whole, Some(name), Some(address.ip()), self.port)).collect())
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.host, self.address) {
            (Some(Host::Tcp(name)), _) => write!(f, "{name}:{}", self.port),
            #[cfg(unix)]
            (Some(Host::Unix(path)), _) => write!(f, "{} port {}", path.display(), self.port),
            (None, Some(address)) => write!(f, "{address}:{}", self.port),
            (None, None) => write!(f, "port {}", self.port),
        }
    }
}

/// The options for one address. A `Config` can only be added to, so it is made anew.
fn one(whole: &Config, name: Option<&str>, address: Option<IpAddr>, port: u16) -> Config {
    let mut config = Config::new();
    if let Some(user) = whole.get_user() {
        config.user(user);
    }
    if let Some(password) = whole.get_password() {
        config.password(password);
    }
    if let Some(database) = whole.get_dbname() {
        config.dbname(database);
    }
    if let Some(options) = whole.get_options() {
        config.options(options);
    }
    if let Some(name) = whole.get_application_name() {
        config.application_name(name);
    }
    if let Some(timeout) = whole.get_connect_timeout() {
        config.connect_timeout(*timeout);
    }
    if let Some(timeout) = whole.get_tcp_user_timeout() {
        config.tcp_user_timeout(*timeout);
    }
    config.keepalives(whole.get_keepalives()).keepalives_idle(whole.get_keepalives_idle());
    if let Some(interval) = whole.get_keepalives_interval() {
        config.keepalives_interval(interval);
    }
    if let Some(retries) = whole.get_keepalives_retries() {
        config.keepalives_retries(retries);
    }
    config.channel_binding(whole.get_channel_binding()).ssl_negotiation(whole.get_ssl_negotiation()).port(port);
    match (name, address) {
        (Some(name), Some(address)) => drop(config.host(name).hostaddr(address)),
        // TLS wants a name. An address is one, too.
        (None, Some(address)) => drop(config.host(address.to_string()).hostaddr(address)),
        _ => {}
    }
    config
}

/// Which server a session is with: when it was started.
type ServerId = String;

struct Attempt {
    connector: Connector,
    mode: Mode,
    whom: Whom,
    /// Who is told what the server notifies the sessions of.
    heard: Option<Sender<Notification>>,
}

impl Attempt {
    /// Opens the first session with a server. Answers what the others are opened with, too.
    async fn first(&self, config: &Config, tasks: &mut JoinSet<()>) -> Result<(Client, ServerId, Config), Trouble> {
        let on_a_socket = config.get_hostaddrs().is_empty();
        let modes: &[SslMode] = match self.mode {
            _ if on_a_socket => &[SslMode::Disable],
            Mode::Disable => &[SslMode::Disable],
            Mode::Allow => &[SslMode::Disable, SslMode::Require],
            Mode::Prefer => &[SslMode::Prefer, SslMode::Disable],
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => &[SslMode::Require],
        };
        let mut before: Option<Trouble> = None;
        for (at, mode) in modes.iter().enumerate() {
            let mut config = config.clone();
            config.ssl_mode(*mode);
            match self.once(&config, tasks).await {
                Ok(client) => {
                    let server = self.fit(&client).await?;
                    return Ok((client, server, config));
                }
                Err(error) if at + 1 < modes.len() && asks_for_the_other(&error) => before = Some(trouble(&error)),
                Err(error) => {
                    let trouble = trouble(&error);
                    let (Some(before), Some(what)) = (before, trouble.what()) else { return Err(trouble) };
                    let (first, second) = if self.mode == Mode::Allow {
                        ("without TLS", "with TLS")
                    } else {
                        ("with TLS", "without TLS")
                    };
                    return Err(Trouble::Error { what, text: format!("{first}: {before}; {second}: {trouble}") });
                }
            }
        }
        Err(Trouble::fault("no way to connect was tried"))
    }

    /// Opens the other sessions with the same server.
    async fn further(
        &self,
        wanted: usize,
        (client, server, config): (Client, ServerId, Config),
        mut tasks: JoinSet<()>,
    ) -> Result<(Vec<Client>, JoinSet<()>), Trouble> {
        let mut clients = vec![client];
        while clients.len() < wanted {
            let client = self.once(&config, &mut tasks).await.map_err(|error| trouble(&error))?;
            if self.fit(&client).await? != server {
                let text =
                    "the sessions are with several servers, behind one address: name the primary itself in `host`";
                return Err(Trouble::Error { what: What::NotServing, text: text.to_owned() });
            }
            clients.push(client);
        }
        Ok((clients, tasks))
    }

    /// Which server it is; an error, if it is none that is wanted.
    async fn fit(&self, client: &Client) -> Result<ServerId, Trouble> {
        match self.whom {
            Whom::Primary => fit(client).await,
            Whom::Any => {
                let asked = "SELECT pg_postmaster_start_time()::text";
                let rows = client.query_typed(asked, &[]).await.map_err(|error| trouble(&error))?;
                column(rows.first().ok_or_else(unexpected)?, 0)
            }
        }
    }

    async fn once(&self, config: &Config, tasks: &mut JoinSet<()>) -> Result<Client, tokio_postgres::Error> {
        let (client, mut connection) = config.connect(self.connector.clone()).await?;
        let heard = self.heard.clone();
        tasks.spawn(async move {
            let Some(heard) = heard else {
                // Whoever waits for a reply is told of the error; here it says no more than that the session is over.
                let _ = connection.await;
                return;
            };
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    let _ = heard.try_send(notification);
                }
            }
        });
        Ok(client)
    }
}

/// Whether the attempt failed because of TLS, or because the server's rules for hosts want, or do not want it.
fn asks_for_the_other(error: &tokio_postgres::Error) -> bool {
    let of_tls = error.source().is_some_and(|cause| cause.is::<TlsError>());
    of_tls || error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// Makes sure that larder can keep its tables on the server.
async fn fit(client: &Client) -> Result<ServerId, Trouble> {
    let asked = "SELECT current_setting('server_version_num')::int4, pg_is_in_recovery(), current_setting('transaction_read_only'), \
                 current_setting('transaction_isolation'), pg_postmaster_start_time()::text";
    let rows = client.query_typed(asked, &[]).await.map_err(|error| trouble(&error))?;
    let row = rows.first().ok_or_else(unexpected)?;
    let unfit = |what, text: String| Err(Trouble::Error { what, text });
    let version: i32 = column(row, 0)?;
    if version < OLDEST {
        let text = format!("the server is PostgreSQL {}, and larder needs 15 or later", version / 10_000);
        return unfit(What::Refused, text);
    }
    if column(row, 1)? {
        let text = "the server is a standby, and larder keeps its tables on the primary: give the primary in `host`, or all hosts";
        return unfit(What::NotServing, text.to_owned());
    }
    if column::<&str>(row, 2)? == "on" {
        let text = "transactions are read-only by default: set `default_transaction_read_only` of the role, and of the database, to off";
        return unfit(What::Refused, text.to_owned());
    }
    let isolation: &str = column(row, 3)?;
    if isolation != "read committed" {
        let text = format!(
            "transactions are {isolation} by default, and larder needs read committed: set `default_transaction_isolation` of the role that \
             larder uses"
        );
        return unfit(What::Refused, text);
    }
    column(row, 4)
}
