//! `larder invalidate` and `larder delete`: forgets objects, or single keys of them, in every release.

use crate::failure::Failure;
use crate::output;
use crate::spelling::Spelling;
use crate::target::Target;
use clap::Args;
use larder::connector::redis::inspect::{InspectError, InspectedCache, InspectedIndex};
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
    /// The keys
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
        let server = self.target.server()?;
        let keys = self.spelling.keys(&self.keys)?;
        server.expect_here(&self.cache)?;
        let inspector = server.open().await?;
        let index = self.index(&inspector.cache(&self.cache).await?).await?;
        forget(&index, &keys).await?;
        let count = keys.len();
        if self.json {
            output::line(json!({ "cache": self.cache, "index": self.index, done: count }));
        } else {
            let keys = if count == 1 { "key" } else { "keys" };
            output::line(format_args!("{done} {count} {keys} of the index {} in the cache {}", self.index, self.cache));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// A wrong name would remove something and refuse no load that is under way, so that what was removed may come back.
    async fn index<'a>(&self, cache: &InspectedCache<'a>) -> Result<InspectedIndex<'a>, Failure> {
        match cache.index(&self.index).await {
            Ok(index) if index.is_proven() => Ok(index),
            Ok(_) | Err(InspectError::NoIndex { .. }) if self.unseen => Ok(cache.unseen_index(&self.index)),
            Ok(_) => Err(Failure::Problem(format!(
                "no object in the cache `{}` has secondary keys at the moment, by which its indexes would show; if `{}` is the \
                 name of an index, say --unseen",
                self.cache, self.index
            ))),
            Err(error @ InspectError::NoIndex { .. }) => {
                Err(Failure::Problem(format!("{error}; if it is one without any key at the moment, say --unseen")))
            }
            Err(error) => Err(error.into()),
        }
    }
}
