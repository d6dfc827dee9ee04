//! Compares the triggers in force with the sources that the configuration declares.

use super::finding::Finding;
use crate::feed::{Selected, names, unknown};
use larder::connector::postgres::PostgresOptions;
use larder::connector::postgres::inspect::Inspector;
use larder::feed::{Finding as Trigger, Wake};
use larder::{Config, ConnectorKind};
use serde::Serialize;
use std::time::Duration;

/// One feed.
#[derive(Debug, Serialize)]
pub(super) struct Feed {
    /// Its name.
    feed: String,
    /// The connector of its database.
    connector: String,
    /// The place of the database, for people.
    place: String,
    /// The caches of the configuration that follow it.
    followers: Vec<String>,
    /// How many tables are declared.
    sources: usize,
    pub(super) findings: Vec<Finding>,
}

const APPLY: &str =
    "run `larder feed apply`, which also forgets what the cache holds, since it may have missed changes";

/// The feeds of the configuration.
pub(super) async fn all(config: &Config) -> Vec<Feed> {
    let mut feeds = Vec::new();
    for (name, declared) in config.feeds() {
        let followers = config.caches().filter(|(_, cache)| {
            cache.feed.as_deref().and_then(|feed| config.feed(feed)).is_some_and(|(followed, _)| followed == name)
        });
        let followers = followers.map(|(cache, _)| cache.to_owned()).collect();
        let (place, findings) = match Selected::of(config, name, declared) {
            Ok(feed) => {
                let mut findings = try_out(&feed).await;
                if declared.options.wake == Wake::Listen {
                    findings.push(try_to_listen(&feed.database, declared.options.poll).await);
                }
                (feed.place(), findings)
            }
            Err(failure) => {
                let to_do = format!("give the connector {} its url", declared.connector);
                ("not known".to_owned(), vec![Finding::problem("database", failure.to_string(), to_do)])
            }
        };
        let (feed, connector, sources) =
            (name.to_owned(), declared.connector.to_string(), declared.sources.all().count());
        feeds.push(Feed { feed, connector, place, followers, sources, findings });
    }
    feeds
}

/// Whether a node would be notified, as `wake: listen` wants it. Nothing is wrong where it is not: changes arrive later, and within the deadline.
async fn try_to_listen(database: &PostgresOptions, poll: Duration) -> Finding {
    let heard = async { Inspector::open(database.clone()).await?.hears().await };
    let later = format!("changes arrive with the next poll, within {poll:?}");
    match heard.await {
        Ok(true) => Finding::ok("wake", "nodes are notified of changes"),
        Ok(false) => Finding::note(
            "wake",
            format!(
                "nodes are not notified: notifications do not arrive, as behind a pooler in transaction mode; {later}. Give the feed a connector \
                 that goes to the server directly, or `wake: poll`"
            ),
        ),
        Err(error) => Finding::note(
            "wake",
            format!("whether nodes are notified is not known ({error}); where they are not, {later}"),
        ),
    }
}

async fn try_out(feed: &Selected) -> Vec<Finding> {
    let asked =
        async { Ok::<_, larder::feed::SourceError>((feed.sources.check(&feed.database).await?, names(feed).await?)) };
    let (triggers, names) = match asked.await {
        Ok(found) => found,
        Err(error) => return vec![Finding::problem("sources", error.to_string(), "see what is said of the connector")],
    };
    let mut findings: Vec<Finding> = triggers.iter().map(judge).collect();
    findings.extend(names.wrong.into_iter().map(|(_, wrong)| {
        Finding::problem(
            "sources",
            format!("{wrong}; until then nobody hears of its changes"),
            "correct the source, and run `larder feed apply`",
        )
    }));
    if findings.is_empty() {
        let tables = feed.sources.all().count();
        findings.push(match tables {
            0 => Finding::note("sources", "none is declared: only those who call larder.invalidate tell of changes"),
            _ => Finding::ok(
                "sources",
                format!("the triggers of {tables} {} are as declared", if tables == 1 { "table" } else { "tables" }),
            ),
        });
    }
    findings.extend(names.unchecked.iter().map(|pair| Finding::note("index", unknown(pair))));
    findings
}

fn judge(found: &Trigger) -> Finding {
    let text = found.to_string();
    match found {
        Trigger::Unusable { .. } => {
            Finding::problem("sources", text, "correct the source or the table, and run `larder feed apply`")
        }
        Trigger::NewPartition { .. } => Finding::problem("partition", text, APPLY),
        Trigger::TellsTooMany { .. } => {
            Finding::note("triggers", format!("{text}: `larder feed apply` makes it cheaper"))
        }
        Trigger::Undeclared { .. } => Finding::note(
            "triggers",
            format!(
                "{text}: `larder feed apply` removes it if the configuration has sources for this cache, `larder feed remove --undeclared` in any case"
            ),
        ),
        _ => Finding::problem("triggers", text, APPLY),
    }
}

/// Whether a feed is on this connector.
pub(super) fn is_on(config: &Config, connector: &larder::ConnectorName, kind: ConnectorKind) -> bool {
    kind == ConnectorKind::Postgres && config.feeds().any(|(_, feed)| feed.connector == *connector)
}

impl Feed {
    /// The lines of the report, for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("feed {} ({}): {}", self.feed, self.connector, self.place)];
        if !self.followers.is_empty() {
            lines.push(format!("  followed by: {}", self.followers.join(", ")));
        }
        lines.extend(self.findings.iter().map(ToString::to_string));
        lines.push(String::new());
        lines
    }
}
