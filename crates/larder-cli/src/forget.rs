//! `larder invalidate` and `larder delete`: forget objects, or single keys of objects, in every release.

use crate::failure::Failure;
use crate::get::missing;
use crate::output;
use crate::server::Index;
use crate::spelling::Spelling;
use crate::target::Target;
use clap::Args;
use serde_json::json;
use std::process::ExitCode;

/// The arguments of `larder invalidate`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Invalidate {
    #[command(flatten)]
    which: Which,
    /// Refuse objects with a lower version than this for one minute, if the entry has a version
    #[arg(long, value_name = "VERSION")]
    below: Option<u64>,
}

/// The arguments of `larder delete`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Delete {
    #[command(flatten)]
    which: Which,
}

/// The keys that a command is about.
#[derive(Args, Clone, Debug)]
struct Which {
    #[command(flatten)]
    target: Target,
    /// The cache
    cache: String,
    /// The index, by its name
    index: String,
    /// The keys; give a key of several parts by --part
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    spelling: Spelling,
    /// Go on even if nothing on the server shows that the index exists
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
        forget: impl AsyncFnOnce(&Index<'_>, &[Vec<u8>]) -> Result<(), Failure>,
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
                "; no object was there under any of them. Each was taken for a key by itself: give the parts of one key by --part"
            }
        };
        output::line(format_args!("{done} {count} {keys} of the index {} in the cache {name}{nothing}", self.index));
        Ok(ExitCode::SUCCESS)
    }

    /// Refuses an index that does not exist, or that nothing on the server shows. With a wrong name the command would report success, but
    /// forget nothing and refuse no load.
    async fn expect_index(&self, cache: &str, index: &Index<'_>, keys: &[Vec<u8>]) -> Result<(), Failure> {
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
            "{missing}; and no given key is the primary key of an object. If the index exists all the same, say --unseen"
        )))
    }
}
