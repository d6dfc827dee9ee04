//! A short-lived connection of the command's own to a server that larder is configured for.

use larder::connector::redis::{Address, RedisOptions};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    RedisResult,
};

/// Connects and logs in. Connecting, and each command on the connection, may take the configured connect timeout.
///
/// AUTH and SELECT are sent here and not by the client library, which would hide the server's reason for refusing a password.
pub(crate) async fn open(config: &RedisOptions) -> RedisResult<MultiplexedConnection> {
    let mut connection = connect(config, RedisConnectionInfo::default().set_skip_set_lib_name()).await?;
    if let Some(password) = &config.password {
        let mut auth = redis::cmd("AUTH");
        if let Some(username) = &config.username {
            auth.arg(username);
        }
        auth.arg(password.expose()).exec_async(&mut connection).await?;
    }
    if config.database != 0 {
        redis::cmd("SELECT").arg(config.database).exec_async(&mut connection).await?;
    }
    Ok(connection)
}

/// Connects with the third version of the protocol.
pub(crate) async fn greet_in_resp3(config: &RedisOptions) -> RedisResult<()> {
    let mut settings = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    if let Some(username) = &config.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &config.password {
        settings = settings.set_password(password.expose());
    }
    connect(config, settings).await.map(drop)
}

/// Removes all keys under the configured prefix, and repeats that until a walk finds none. Returns the number of removed keys.
pub(crate) async fn remove_all(config: &RedisOptions) -> RedisResult<u64> {
    let mut connection = open(config).await?;
    let mut removed = 0;
    loop {
        let before = removed;
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{}:*", config.prefix)).arg("COUNT").arg(500);
            let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
            if !keys.is_empty() {
                removed += redis::cmd("UNLINK").arg(keys).query_async::<u64>(&mut connection).await?;
            }
            if next == 0 {
                break;
            }
            cursor = next;
        }
        if removed == before {
            return Ok(removed);
        }
    }
}

async fn connect(config: &RedisOptions, settings: RedisConnectionInfo) -> RedisResult<MultiplexedConnection> {
    let address = match &config.address {
        Address::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
        Address::Unix(path) => ConnectionAddr::Unix(path.clone()),
    };
    let info: ConnectionInfo = address.into_connection_info()?.set_redis_settings(settings);
    let options = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.connect_timeout))
        .set_response_timeout(Some(config.connect_timeout));
    redis::Client::open(info)?.get_multiplexed_async_connection_with_config(&options).await
}
