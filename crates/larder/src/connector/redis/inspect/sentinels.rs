//! What Sentinels say, for an operator.

use crate::connector::redis::options::{Address, RedisOptions};
use crate::connector::redis::sentinel::{Said, Sentinels};
use crate::connector::remote::Trouble;
use crate::option_error::OptionError;

/// What the Sentinels of some options say: see [`sentinels`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentinelReport {
    /// What each Sentinel says, or why it says nothing, and what to do. In the order of the options.
    pub answers: Vec<(Address, Result<NamedMaster, String>)>,
    /// The server that larder takes for the master, or why it takes none.
    pub master: Result<NamedMaster, String>,
}

/// A server that a Sentinel names as the master.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedMaster {
    /// Where it listens.
    pub address: Address,
    /// The config epoch, which grows with each failover.
    pub epoch: u64,
}

/// Asks all Sentinels of the options which server is the master, once, each on a connection of its own. `None`: the options name no
/// Sentinels.
///
/// ```no_run
/// use larder::connector::redis::RedisOptions;
/// use larder::connector::redis::inspect::sentinels;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let options = RedisOptions::from_url("redis-sentinel://10.0.0.1,10.0.0.2,10.0.0.3#mymaster")?;
/// for (sentinel, answer) in sentinels(&options).await?.into_iter().flat_map(|report| report.answers) {
///     match answer {
///         Ok(master) => println!("{sentinel} names {}", master.address),
///         Err(why) => println!("{sentinel}: {why}"),
///     }
/// }
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// An option cannot be used.
///
/// # Cancellation
///
/// Dropping the future closes the connections.
pub async fn sentinels(options: &RedisOptions) -> Result<Option<SentinelReport>, OptionError> {
    options.validate()?;
    let Some(sentinel) = &options.sentinel else { return Ok(None) };
    let (answers, master) = Sentinels::new(sentinel, options.connect_timeout).survey().await;
    let named = |said: Result<Said, Trouble>| match said {
        Ok(Said { address, epoch, .. }) => Ok(NamedMaster { address, epoch }),
        Err(trouble) => Err(trouble.to_string()),
    };
    let answers = answers.into_iter().map(|(sentinel, said)| (sentinel, named(said))).collect();
    Ok(Some(SentinelReport { answers, master: named(master) }))
}
