//! Checks the server when everything has come to rest: every key, or row, that is left must expire or be of use.

use super::faults::Failed;
use super::node::{PREFIX, cache_name};
use super::objects::Kind;
use crate::postgres::Sql;
use larder_testing::postgres::PostgresServer;
use larder_testing::server::{Connection, Reply, Server};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the sessions of clients that have gone away may take to end.
const ENDING: Duration = Duration::from_secs(20);

/// How many bytes precede the primary key in the value of an index key.
const HINT: usize = 12;

/// Checks every key, after a prune. Returns one line for people for each key that should not be there.
pub(crate) async fn find(server: &Server) -> Result<Vec<String>, Failed> {
    let mut found = Vec::new();
    let keys = server.keys("*").await?;
    let mut connection = server.connect().await?;
    for key in &keys {
        let shown = key.escape_ascii();
        let Some((kind, what)) = known(key) else {
            found.push(format!("a key that is none of larder's: {shown}"));
            continue;
        };
        let Some(lives) = lifetime(&mut connection, key).await? else { continue };
        // The clock, the place in the feed and the names of the indexes stay.
        if lives || matches!(what, b'c' | b'p' | b'n') {
            continue;
        }
        match (kind, what) {
            // Policies have no age.
            (Kind::Policy, b'o') => {}
            (Kind::Policy, b'i') => {
                let leads = leads(&mut connection, &keys, key).await?;
                if !leads {
                    found.push(format!("an index key that leads nowhere and never ends: {shown}"));
                }
            }
            _ => found.push(format!("a key that never ends: {shown}")),
        }
    }
    Ok(found)
}

/// Checks the tables of a database, after a prune. Returns one line for people for each kind of row that should not be there.
///
/// A session whose client has gone away while the network swallowed everything holds what it holds, its transaction and its locks, until the server
/// finds out. `probe` is what lets it find out: the probes of TCP, which come after hours.
pub(crate) async fn find_in_postgres(server: &PostgresServer, probe: impl Fn()) -> Result<Vec<String>, Failed> {
    find_within(server, ENDING, probe).await
}

async fn find_within(server: &PostgresServer, time: Duration, probe: impl Fn()) -> Result<Vec<String>, Failed> {
    // What the last statements have left is removed by the next prune.
    const LEFT: [(&str, &str); 6] = [
        (
            "objects that have ended",
            "larder.objects WHERE until <= now() - interval '1 s' OR idle <= now() - interval '1 s'",
        ),
        ("notes that have ended", "larder.notes WHERE until <= now() - interval '1 s'"),
        ("leases that have ended", "larder.leases WHERE until <= now() - interval '1 s'"),
        (
            "rows of keys that lead nowhere",
            "larder.keys k, larder.clock c WHERE k.generation <= c.swept
             AND NOT EXISTS (SELECT FROM larder.objects o WHERE o.mark = k.leads_to AND k.mark = ANY (o.marks))",
        ),
        ("prepared transactions", "pg_prepared_xacts"),
        ("transactions that have not ended", "pg_stat_activity WHERE state LIKE 'idle in transaction%'"),
    ];
    let session = Sql::connect(&server.dsn()).await?;
    let deadline = Instant::now() + time;
    loop {
        probe();
        // Once more, so that nothing can have ended between the prune and the look.
        session.run("SELECT larder.prune(0, 1000000)").await?;
        let mut found = Vec::new();
        for (what, rows) in LEFT {
            let count: u64 = session.number(&format!("SELECT count(*) FROM {rows}")).await?;
            if count > 0 {
                found.push(format!("{count} {what}"));
            }
        }
        // The server notices a little later that a client has gone away.
        if found.is_empty() || Instant::now() > deadline {
            return Ok(found);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The cache that a key belongs to, and the letter of its kind.
fn known(key: &[u8]) -> Option<(Kind, u8)> {
    [Kind::Instance, Kind::Policy].into_iter().find_map(|kind| {
        let name = cache_name(kind);
        // In a cluster the name is the hash tag.
        let bases = [format!("{PREFIX}:{name}:"), format!("{PREFIX}:{{{name}}}:")];
        let rest = bases.iter().find_map(|base| key.strip_prefix(base.as_bytes()))?;
        Some((kind, *rest.first()?))
    })
}

/// Whether a key ends by itself. `None`: this node of a cluster does not serve it. A replica that was promoted before it had heard that a slot moved away keeps
/// the keys of the slot; nobody finds them there, and a cache whose slot comes back is cleared.
async fn lifetime(connection: &mut Connection, key: &[u8]) -> Result<Option<bool>, Failed> {
    match connection.command(&[b"PTTL", key]).await? {
        Reply::Int(left) => Ok(Some(left != -1)),
        Reply::Error(line) if line.starts_with("MOVED ") || line.starts_with("CLUSTERDOWN ") => Ok(None),
        other => Err(Failed::Words(format!("PTTL was answered by {other:?}"))),
    }
}

/// Whether an index key leads to a stored object.
async fn leads(connection: &mut Connection, keys: &[Vec<u8>], key: &[u8]) -> Result<bool, Failed> {
    let Reply::Bulk(hint) = connection.command(&[b"GET", key]).await? else { return Ok(true) };
    let primary = [b":", hint.get(HINT..).unwrap_or_default()].concat();
    Ok(keys.iter().any(|key| known(key).is_some_and(|(_, what)| what == b'o') && key.ends_with(&primary)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres;
    use larder_testing::proxy::{Fault, Proxy};
    use larder_testing::server::{ServerOptions, required};

    /// The network has swallowed the end of a session in mid-transaction. That is no fault of larder's.
    #[tokio::test]
    async fn a_session_that_is_half_open_is_ended_first() {
        let binaries = larder_testing::postgres::required().unwrap().remove(0);
        let server = PostgresServer::start(&binaries, &["max_prepared_transactions = 2"]).await.unwrap();
        let direct = Sql::connect(&server.dsn()).await.unwrap();
        direct.run(larder::connector::postgres::Postgres::SCHEMA).await.unwrap();
        let proxy = Proxy::start(&*postgres::socket(&server)).await.unwrap();
        let session = Sql::connect(&postgres::through([&proxy])).await.unwrap();
        session.run("BEGIN; SELECT 1").await.unwrap();
        proxy.set_both(Fault::Blackhole);
        drop(session);
        let open = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";
        assert_eq!(direct.number::<u32>(open).await.unwrap(), 1);
        proxy.set_both(Fault::Pass);
        assert_eq!(direct.number::<u32>(open).await.unwrap(), 1);
        assert_eq!(find_in_postgres(&server, || proxy.probe()).await.unwrap(), Vec::<String>::new());
        direct.run("BEGIN; SELECT 1; PREPARE TRANSACTION 'left'").await.unwrap();
        assert_eq!(find_within(&server, Duration::ZERO, || {}).await.unwrap(), ["1 prepared transactions"]);
    }

    #[tokio::test]
    async fn what_nobody_will_ever_remove_is_found() {
        let server = Server::start(&required().unwrap()[0], ServerOptions::default()).await.unwrap();
        let hint = |primary: &str| [&[0; HINT][..], primary.as_bytes()].concat();
        let mut connection = server.connect().await.unwrap();
        for (key, value, life) in [
            ("torture:instance:c", b"clock".to_vec(), None),
            ("torture:instance:p", b"place".to_vec(), None),
            ("torture:instance:n0123", b"id:host".to_vec(), None),
            ("torture:instance:o0123:i00001", b"object".to_vec(), Some("60000")),
            ("torture:instance:ihost:h1.example", hint("i00001"), Some("60000")),
            ("torture:policy:o0123:p00001", b"object".to_vec(), None),
            ("torture:policy:iserial:1", hint("p00001"), None),
            ("torture:policy:vp00001", b"floor".to_vec(), Some("60000")),
        ] {
            connection.command(&[b"SET".as_slice(), key.as_bytes(), &value]).await.unwrap();
            if let Some(life) = life {
                connection.command(&["PEXPIRE", key, life]).await.unwrap();
            }
        }
        assert_eq!(find(&server).await.unwrap(), Vec::<String>::new());
        for key in [
            "torture:instance:ihost:h2.example",
            "torture:instance:s77",
            "torture:instance:lhost:h1.example",
            "torture:instance:o0123:i00002",
        ] {
            connection.command(&["SET", key, "for ever"]).await.unwrap();
        }
        connection.command(&[b"SET".as_slice(), b"torture:policy:iserial:2", &hint("p00002")]).await.unwrap();
        connection.command(&["SET", "somebody", "else's"]).await.unwrap();
        let found = find(&server).await.unwrap();
        assert_eq!(found.len(), 6, "{found:?}");
        assert!(found.iter().any(|line| line.contains("leads nowhere") && line.ends_with("iserial:2")), "{found:?}");
        assert!(found.iter().any(|line| line.contains("none of larder's") && line.ends_with("somebody")), "{found:?}");
    }
}
