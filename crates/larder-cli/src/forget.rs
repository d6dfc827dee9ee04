//! `larder invalidate` and `larder delete`: forgets objects, or single keys of them, in every release.

use crate::failure::Failure;
use crate::get::missing;
use crate::output;
use crate::spelling::Spelling;
use crate::target::Target;
use clap::Args;
use larder::connector::redis::inspect::{InspectError, InspectedIndex};
use serde_json::json;
use std::process::ExitCode;

/// What `larder invalidate` is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Invalidate {
    #[command(flatten)]
    which: Which,
    /// Refuse versions lower than this for a minute, where the entry has a version
    #[arg(long, value_name = "VERSION")]
    below: Option<u64>,
}

/// What `larder delete` is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Delete {
    #[command(flatten)]
    which: Which,
}

/// Which keys are meant.
#[derive(Args, Clone, Debug)]
struct Which {
    #[command(flatten)]
    target: Target,
    /// The cache
    cache: String,
    /// The index, by its name
    index: String,
    /// The keys, each by itself; one key of several parts is given by --part
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    spelling: Spelling,
    /// Go on although nothing on the server shows that there is such an index
    #[arg(long)]
    unseen: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) async fn invalidate(options: Invalidate) -> Result<ExitCode, Failure> {
    options.which.forget("invalidated", async |index, keys| index.invalidate(keys, options.below).await).await
}

pub(crate) async fn delete(options: Delete) -> Result<ExitCode, Failure> {
    options.which.forget("deleted", async |index, keys| index.delete(keys).await).await
}

impl Which {
    async fn forget(
        &self,
        done: &str,
        forget: impl AsyncFnOnce(&InspectedIndex<'_>, &[Vec<u8>]) -> Result<(), InspectError>,
    ) -> Result<ExitCode, Failure> {
        let server = self.target.server_of(&self.cache)?;
        let keys = self.spelling.keys(&self.keys)?;
        let inspector = server.open().await?;
        let cache = inspector.cache(&self.cache).await?;
        let index = cache.index(&self.index).await?;
        self.expect_index(cache.name(), &index, &keys).await?;
        let leading = index.leading(&keys).await?;
        forget(&index, &keys).await?;
        let (name, count) = (cache.name(), keys.len());
        if self.json {
            output::line(json!({ "cache": name, "index": self.index, done: count, "led_to_an_object": leading }));
            return Ok(ExitCode::SUCCESS);
        }
        let keys = if count == 1 { "key" } else { "keys" };
        let nothing = match (leading, count) {
            (1.., _) => "",
            (0, 1) => "; no object was there under it",
            (0, _) => {
                "; no object was there under any of them. Each was taken for a key by itself: the parts of one key are given by --part"
            }
        };
        output::line(format_args!("{done} {count} {keys} of the index {} in the cache {name}{nothing}", self.index));
        Ok(ExitCode::SUCCESS)
    }

    /// Refuses a name that is no index, or that nothing shows: if it is wrong, nothing is forgotten and no load refused, although it
    /// would seem so.
    async fn expect_index(&self, cache: &str, index: &InspectedIndex<'_>, keys: &[Vec<u8>]) -> Result<(), Failure> {
        if index.is_proven() || self.unseen {
            return Ok(());
        }
        let missing = missing(cache, &self.index, index);
        if index.is_absent() {
            return Err(Failure::Problem(format!("{missing}. Nothing was done")));
        }
        for key in keys {
            if !index.find(key).await?.copies.is_empty() {
                return Ok(());
            }
        }
        Err(Failure::Problem(format!(
            "{missing}; and no object has a primary key that was given. If there is such an index all the same, say --unseen"
        )))
    }
}
