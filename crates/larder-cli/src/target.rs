//! Which server a command goes to: by the arguments, and by the configuration.

use crate::configuration;
use crate::failure::Failure;
use crate::postgres::options_of;
use crate::server::Server;
use clap::Args;
use larder::config::ConfigError;
use larder::{Config, ConnectorKind, ConnectorName, ConnectorOptions};
use std::ffi::OsString;
use std::path::PathBuf;

/// The variables that are used together with `--redis`, so that a password need not be on the command line.
const CREDENTIALS: [&str; 6] = [
    "LARDER_CONNECTORS_REDIS_USERNAME",
    "LARDER_CONNECTORS_REDIS_PASSWORD",
    "LARDER_CONNECTORS_REDIS_PASSWORD_FILE",
    "LARDER_CONNECTORS_REDIS_SENTINEL_USERNAME",
    "LARDER_CONNECTORS_REDIS_SENTINEL_PASSWORD",
    "LARDER_CONNECTORS_REDIS_SENTINEL_PASSWORD_FILE",
];

/// The arguments that say where the caches are.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// The configuration of the services, YAML or TOML, or - for stdin. The command goes to the server that the cache is on. Environment
    /// variables (LARDER_…) override the configuration, as for a service
    #[arg(short, long, value_name = "FILE", required_unless_present_any = ["redis", "postgres"], conflicts_with_all = ["redis", "postgres"])]
    config: Option<PathBuf>,
    /// A Redis server, instead of a configuration: redis://[user:password@]host[:port][/database], rediss:// for TLS,
    /// redis+unix:///path, redis-sentinel://host:port,host:port[/database]#master, or redis-cluster://host:port,host:port for a cluster.
    /// User and password may be in LARDER_CONNECTORS_REDIS_USERNAME and _PASSWORD or _PASSWORD_FILE, and those for Sentinels in
    /// LARDER_CONNECTORS_REDIS_SENTINEL_USERNAME and so on
    #[arg(long, value_name = "URL", conflicts_with = "postgres")]
    redis: Option<String>,
    /// A PostgreSQL database, instead of a configuration: postgres://user[:password]@host[:port]/database, or keys and values as
    /// `host=… user=… dbname=…`. The password may be in LARDER_CONNECTORS_POSTGRES_PASSWORD or _PASSWORD_FILE
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// With --redis: the prefix of the services' keys [default: larder]
    #[arg(long, requires = "redis", value_name = "PREFIX")]
    prefix: Option<String>,
    /// With a configuration of several servers: use the server of this connector, whichever connector the cache is on
    #[arg(long, conflicts_with_all = ["redis", "postgres"], value_name = "NAME")]
    connector: Option<String>,
}

/// Where the servers are that a command may go to.
enum Place {
    /// The only one, given by its URL.
    Given(Box<Server>),
    /// Those of a configuration.
    Configured(Box<Config>),
}

impl Target {
    fn load(&self) -> Result<Place, Failure> {
        match (&self.config, &self.redis, &self.postgres) {
            (Some(file), ..) => configuration::load(file).map(|config| Place::Configured(config.into())),
            (None, None, Some(url)) => {
                options_of(url, "--postgres").map(|options| Place::Given(Server::Postgres(options.into()).into()))
            }
            (None, url, _) => {
                let given = [("URL", url), ("PREFIX", &self.prefix)].into_iter().filter_map(|(name, value)| {
                    Some((format!("LARDER_CONNECTORS_REDIS_{name}").into(), OsString::from(value.as_ref()?)))
                });
                // Beside the URL of a server, those of Sentinels would contradict it.
                let sentinels = url.as_ref().is_some_and(|url| url.contains("sentinel://"));
                let is_used = |name: &str| sentinels || !name.contains("_SENTINEL_");
                let credentials = std::env::vars_os()
                    .filter(|(name, _)| CREDENTIALS.iter().any(|known| *known == name && is_used(known)));
                let config = Config::from_variables(given.chain(credentials)).map_err(|error| of_options(&error))?;
                let redis = servers(&config).next().map(|(_, server)| Place::Given(server.into()));
                redis.ok_or_else(|| Failure::Usage("the URL is empty: give one".to_owned()))
            }
        }
    }

    /// The server of `--connector`, or every server of the configuration.
    pub(crate) fn servers(&self) -> Result<Vec<Server>, Failure> {
        match self.load()? {
            Place::Given(server) => Ok(vec![*server]),
            Place::Configured(config) => self.among(&config),
        }
    }

    /// The server of `--connector`, or the only server of the configuration.
    pub(crate) fn server(&self) -> Result<Server, Failure> {
        match self.load()? {
            Place::Given(server) => Ok(*server),
            Place::Configured(config) => self.only(&config, "the configuration has several servers"),
        }
    }

    fn among(&self, config: &Config) -> Result<Vec<Server>, Failure> {
        if let Some(connector) = &self.connector {
            return Ok(vec![named(config, connector)?]);
        }
        let servers: Vec<Server> = servers(config).map(|(_, server)| server).collect();
        if servers.is_empty() {
            return Err(Failure::Usage(
                "the configuration has no server: give connectors.redis its url, address or socket, or connectors.postgres its \
                 url, or use --redis URL or --postgres URL"
                    .to_owned(),
            ));
        }
        Ok(servers)
    }

    /// The only server. The error begins with `what` if there are several.
    fn only(&self, config: &Config, what: &str) -> Result<Server, Failure> {
        let mut servers = self.among(config)?;
        match (servers.pop(), servers.is_empty()) {
            (Some(server), true) => Ok(server),
            _ => Err(which(config, what)),
        }
    }

    /// The server that a cache is on. Fails if the configuration puts the cache on a connector without a server.
    pub(crate) fn server_of(&self, cache: &str) -> Result<Server, Failure> {
        let config = match self.load()? {
            Place::Given(server) => return Ok(*server),
            Place::Configured(config) => *config,
        };
        if let Some(connector) = &self.connector {
            return named(&config, connector);
        }
        let Some(connector) = config.cache(cache).map(|cache| cache.connector) else {
            let what =
                format!("the configuration has several servers, and does not say which the cache `{cache}` is on");
            return self.only(&config, &what);
        };
        match config.below(&connector).map(|(_, options)| options) {
            Some(options) if options.kind() == ConnectorKind::Memory => Err(Failure::Usage(format!(
                "the cache `{cache}` is on the memory connector: each process has its own, which no command reaches"
            ))),
            // It may be a connector that the configuration has no server for.
            options => options.and_then(server).ok_or_else(|| {
                Failure::Usage(format!(
                    "the cache `{cache}` is on the connector {connector} by this configuration, not on a server"
                ))
            }),
        }
    }
}

/// The servers of a configuration, by the names of their connectors.
fn servers(config: &Config) -> impl Iterator<Item = (&ConnectorName, Server)> {
    config.connectors().filter_map(|(name, options)| Some((name, server(options)?)))
}

fn server(options: &ConnectorOptions) -> Option<Server> {
    match options {
        ConnectorOptions::Redis(redis) => Some(Server::Redis(redis.clone())),
        ConnectorOptions::Postgres(postgres) => Some(Server::Postgres(postgres.clone())),
        _ => None,
    }
}

fn named(config: &Config, connector: &str) -> Result<Server, Failure> {
    let named = config.below(connector).and_then(|(_, options)| server(options));
    named.ok_or_else(|| which(config, &format!("the configuration has no server called `{connector}`")))
}

fn which(config: &Config, what: &str) -> Failure {
    let names: Vec<String> = servers(config).map(|(name, _)| format!("--connector {name}")).collect();
    let to_do = if names.is_empty() {
        "use --redis URL or --postgres URL".to_owned()
    } else {
        format!("say {}", names.join(" or "))
    };
    Failure::Usage(format!("{what}: {to_do}"))
}

/// Reports problems under the names of the command-line options, not of the variables that the options were turned into.
fn of_options(error: &ConfigError) -> Failure {
    let problems = error.problems().iter().map(|problem| {
        let text = problem.to_string();
        match (problem.path(), text.split_once(problem.path())) {
            ("connectors.redis.url", Some((_, reason))) => format!("--redis{reason}"),
            ("connectors.redis.prefix", Some((_, reason))) => format!("--prefix{reason}"),
            _ => text,
        }
    });
    Failure::Usage(problems.collect::<Vec<_>>().join("\n"))
}
