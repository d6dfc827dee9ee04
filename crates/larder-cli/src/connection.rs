//! A short-lived connection of the command's own to a server that larder is configured for.

use larder::config::{Address, RedisConfig};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};

/// How a server is to be reached and greeted, in the client library's words.
pub(crate) fn info(config: &RedisConfig, protocol: ProtocolVersion) -> redis::RedisResult<ConnectionInfo> {
    let address = match &config.address {
        Address::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
        Address::Unix(path) => ConnectionAddr::Unix(path.clone()),
    };
    let mut settings = RedisConnectionInfo::default().set_protocol(protocol).set_db(i64::from(config.database));
    if let Some(username) = &config.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &config.password {
        settings = settings.set_password(password.expose());
    }
    Ok(address.into_connection_info()?.set_redis_settings(settings))
}

/// Connects within the configured time; commands then have the same time each.
pub(crate) async fn open(config: &RedisConfig) -> redis::RedisResult<MultiplexedConnection> {
    open_with(config, ProtocolVersion::RESP2).await
}

/// As [`open`], with a version of the protocol.
pub(crate) async fn open_with(config: &RedisConfig, protocol: ProtocolVersion) -> redis::RedisResult<MultiplexedConnection> {
    let options = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.connect_timeout))
        .set_response_timeout(Some(config.connect_timeout));
    redis::Client::open(info(config, protocol)?)?.get_multiplexed_async_connection_with_config(&options).await
}
