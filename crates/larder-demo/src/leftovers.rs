//! Removes, at the end, what the demo has stored on a server that is not its own.

use larder::connector::postgres::PostgresOptions;
use larder::connector::postgres::inspect::{InspectError, Inspector};
use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect::{cluster, dial};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult};

/// Removes every key under the configured prefix, in a cluster from every primary. Connecting, and each command, may take the configured connect
/// timeout.
pub(crate) async fn remove(config: &RedisOptions) -> RedisResult<()> {
    match cluster(config).await.map_err(std::io::Error::other)? {
        None => remove_from(config).await,
        Some(cluster) => {
            for (primary, _) in cluster.primaries() {
                remove_from(&primary).await?;
            }
            Ok(())
        }
    }
}

async fn remove_from(config: &RedisOptions) -> RedisResult<()> {
    let mut login = RedisConnectionInfo::default().set_db(i64::from(config.database)).set_skip_set_lib_name();
    if let Some(username) = &config.username {
        login = login.set_username(username);
    }
    if let Some(password) = &config.password {
        login = login.set_password(password.expose());
    }
    let limits = AsyncConnectionConfig::new().set_response_timeout(Some(config.connect_timeout));
    let (socket, _) = dial(config).await?;
    let connecting = MultiplexedConnection::new_with_config(&login, socket, limits);
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let (mut connection, driver) = tokio::time::timeout(config.connect_timeout, connecting).await.map_err(late)??;
    // The task ends with the connection.
    tokio::spawn(driver);

    // Commands that were under way when the nodes ended may arrive during a walk. So repeat the walk until it finds nothing.
    while walk(&mut connection, &config.prefix).await? > 0 {}
    Ok(())
}

/// Forgets everything in a cache in a database. Larder's tables stay, and services that use them remove the rows.
pub(crate) async fn forget(options: PostgresOptions, cache: &str) -> Result<(), InspectError> {
    let database = Inspector::open(options).await?;
    match database.cache(cache).await {
        Ok(cache) => cache.truncate().await,
        // Nothing was ever stored.
        Err(InspectError::NoCache { .. } | InspectError::NotSetUp { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Walks through all keys once, and removes those with the prefix. Returns how many it has found.
async fn walk(connection: &mut MultiplexedConnection, prefix: &str) -> RedisResult<usize> {
    let (mut cursor, mut found) = (0_u64, 0);
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{prefix}:*")).arg("COUNT").arg(500);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(connection).await?;
        if !keys.is_empty() {
            found += keys.len();
            redis::cmd("UNLINK").arg(keys).exec_async(connection).await?;
        }
        if next == 0 {
            return Ok(found);
        }
        cursor = next;
    }
}
