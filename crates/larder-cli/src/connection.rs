//! A short-lived connection of the command's own to a server that larder is configured for.

use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect::{CertificateEnds, dial};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisResult};
use std::io;

/// Connects and logs in. Connecting, and each command on the connection, may take the configured connect timeout.
///
/// AUTH and SELECT are sent here and not by the client library, which would hide the server's reason for refusing a password.
pub(crate) async fn open(config: &RedisOptions) -> RedisResult<MultiplexedConnection> {
    Ok(open_and_look(config).await?.0)
}

/// As [`open`]. Also returns until when the certificates are valid, if there is TLS.
pub(crate) async fn open_and_look(
    config: &RedisOptions,
) -> RedisResult<(MultiplexedConnection, Option<CertificateEnds>)> {
    let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    let (mut connection, ends) = connect_and_look(config, settings).await?;
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
    Ok((connection, ends))
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
    Ok(connect_and_look(config, settings).await?.0)
}

/// Connects as larder does, TLS included. Also returns until when the certificates are valid, if there is TLS.
async fn connect_and_look(
    config: &RedisOptions,
    settings: RedisConnectionInfo,
) -> RedisResult<(MultiplexedConnection, Option<CertificateEnds>)> {
    let options = AsyncConnectionConfig::new().set_response_timeout(Some(config.connect_timeout));
    let connecting = async {
        let (socket, ends) = dial(config).await?;
        let (connection, driver) = MultiplexedConnection::new_with_config(&settings, socket, options).await?;
        // The task ends with the connection.
        tokio::spawn(driver);
        Ok((connection, ends))
    };
    let connected = tokio::time::timeout(config.connect_timeout, connecting).await;
    connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}
