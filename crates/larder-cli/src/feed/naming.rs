//! Whether services have the caches and indexes that sources name. Services register their names where their objects are, and in the database of the feed
//! that they follow.

use super::selected::Selected;
use larder::connector::redis::inspect::{InspectError, Inspector};
use larder::feed::{Known, Naming, SourceError};

/// What is known of the names of all sources.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// A table, and what is wrong with the names of its source, for people.
    pub(crate) wrong: Vec<(String, String)>,
    /// Caches and indexes of which nobody knows whether they exist.
    pub(crate) unchecked: Vec<(String, String)>,
}

/// Asks the database, and Redis for caches that are there.
pub(crate) async fn names(feed: &Selected) -> Result<Names, SourceError> {
    let mut names = Names::default();
    for naming in feed.sources.naming(&feed.database).await? {
        let known = match naming.known {
            Known::NotRegistered => on_redis(feed, &naming).await,
            known => known,
        };
        match known {
            Known::Registered => {}
            Known::Wrong(what) => {
                names.wrong.push((naming.table.clone(), format!("the source `{}` {what}", naming.table)))
            }
            _ => {
                let pair = (naming.cache, naming.index);
                if !names.unchecked.contains(&pair) {
                    names.unchecked.push(pair);
                }
            }
        }
    }
    Ok(names)
}

/// What a Redis server knows. One that cannot be asked knows nothing.
async fn on_redis(feed: &Selected, naming: &Naming) -> Known {
    let Some(options) = feed.on_redis.get(&naming.cache) else { return Known::NotRegistered };
    let asked = async {
        let server = Inspector::open(options.clone()).await?;
        let cache = server.cache(&naming.cache).await?;
        if cache.name() != naming.cache {
            let (given, known) = (&naming.cache, cache.name());
            let what = format!("calls the cache `{given}`, which its services call `{known}`: give that name");
            return Ok::<_, InspectError>(Known::Wrong(what));
        }
        let index = cache.index(&naming.index).await?;
        if index.is_proven() {
            return Ok(Known::Registered);
        }
        if !index.is_absent() {
            return Ok(Known::NotRegistered);
        }
        let near = index.nearest().map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        Ok(Known::Wrong(format!(
            "names the index `{}`, which no release of `{}` has{near}: give {}",
            naming.index,
            naming.cache,
            index.others().join(" or ")
        )))
    };
    asked.await.unwrap_or(Known::NotRegistered)
}

/// Says that nobody knows whether an index exists.
pub(crate) fn unknown((cache, index): &(String, String)) -> String {
    format!("whether the cache `{cache}` has the index `{index}` is not checked: no service has registered it")
}
