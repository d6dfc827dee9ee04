//! `larder truncate`: forgets everything in a cache. `larder prune`: removes what has ended, and index keys that lead to no object.

use crate::failure::Failure;
use crate::server::{Cache, Server};
use crate::target::Target;
use crate::{output, progress};
use clap::Args;
use larder::connector::redis::inspect::{InspectError, InspectedCache};
use larder::contract::Pruned;
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// The arguments of `larder truncate`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Truncate {
    #[command(flatten)]
    target: Target,
    /// The cache
    cache: String,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The arguments of `larder prune`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Prune {
    #[command(flatten)]
    target: Target,
    /// The cache
    cache: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) async fn truncate(options: Truncate) -> Result<ExitCode, Failure> {
    let server = options.target.server_of(&options.cache)?;
    if !options.yes && !std::io::stdin().is_terminal() {
        return Err(Failure::Usage("nobody can confirm this, because stdin is no terminal; say --yes".to_owned()));
    }
    let inspector = server.open().await?;
    let cache = inspector.cache(&options.cache).await?;
    let (size, what) = match &cache {
        Cache::Redis(cache) if cache.placement().is_some() => (cache.database_size().await?, "keys on its primary"),
        Cache::Redis(cache) => (cache.database_size().await?, "keys in the database"),
        Cache::Postgres(cache) => (Some(cache.database().objects().await?), "objects in the database, about"),
    };
    if !options.yes && !agreed(&server, cache.name(), size.map(|size| format!("{size} {what}")))? {
        return Err(Failure::Problem("nothing was done".to_owned()));
    }
    let (removed, told) = match &cache {
        Cache::Redis(cache) => {
            let removed = remove(cache, size).await?;
            (removed, format!("{removed} keys removed"))
        }
        Cache::Postgres(cache) => {
            cache.truncate().await?;
            (0, "nothing of it is served from now on, and services remove its rows later".to_owned())
        }
    };
    if options.json {
        output::line(json!({ "cache": cache.name(), "truncated": true, "keys_removed": removed }));
    } else {
        output::line(format_args!("truncated the cache {}: {told}", cache.name()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Truncates a cache on Redis. Returns how many keys were removed.
async fn remove(cache: &InspectedCache, size: Option<u64>) -> Result<u64, Failure> {
    // A walk through the keys cannot tell its progress. The database's size is the most that can be removed.
    let bar = match size {
        Some(size) => progress::bar(size, "{elapsed} {wide_bar} {human_pos} keys removed, of at most {human_len}"),
        None => progress::count("{spinner} {elapsed} {human_pos} keys removed"),
    };
    let mut removed = 0;
    let truncated = cache
        .truncate(|progress| {
            removed = progress.removed;
            bar.set_position(removed);
        })
        .await;
    bar.finish_and_clear();
    truncated.map_err(|error| match error {
        InspectError::ForeignClock { .. } => Failure::from(error),
        error => Failure::Problem(format!(
            "{error}; {removed} keys were removed. Repeat it: until then services may find what is left, or clear the cache themselves"
        )),
    })?;
    Ok(removed)
}

pub(crate) async fn prune(options: Prune) -> Result<ExitCode, Failure> {
    let server = options.target.server_of(&options.cache)?;
    let inspector = server.open().await?;
    let cache = inspector.cache(&options.cache).await?;
    let (report, text) = match &cache {
        Cache::Redis(cache) => {
            let shown = progress::count("{spinner} {elapsed} {human_pos} index keys looked at, {msg} removed");
            let pruned = cache
                .prune(|progress| {
                    shown.set_position(progress.found);
                    shown.set_message(progress.removed.to_string());
                })
                .await;
            shown.finish_and_clear();
            let (name, pruned) = (cache.name(), pruned?);
            let (found, removed) = (pruned.found, pruned.removed);
            (
                json!({ "cache": name, "index_keys": found, "keys_removed": removed }),
                format!("pruned the cache {name}: {removed} of {found} index keys removed"),
            )
        }
        Cache::Postgres(cache) => {
            let bar = progress::bar(0, "{elapsed} {wide_bar} {human_pos} of {human_len} pages");
            let pruned = cache
                .database()
                .prune(|progress, _| {
                    bar.set_length(progress.of);
                    bar.set_position(progress.pages);
                })
                .await;
            bar.finish_and_clear();
            let (Pruned { objects, keys, .. }, place) = (pruned?, server.place());
            (
                json!({ "cache": cache.name(), "all_caches": true, "objects_removed": objects, "keys_removed": keys }),
                format!(
                    "pruned all caches in the database {place}, which share its tables: {objects} objects and {keys} index keys removed"
                ),
            )
        }
    };
    if options.json {
        output::line(report);
    } else {
        output::line(text);
    }
    Ok(ExitCode::SUCCESS)
}

fn agreed(server: &Server, cache: &str, size: Option<String>) -> Result<bool, Failure> {
    let size = size.map_or_else(String::new, |size| format!(" ({size})"));
    eprint!("Forget everything in the cache `{cache}` on {}{size}? Services load it again. [y/N] ", server.place());
    let mut answer = String::new();
    let read = std::io::stderr().flush().and_then(|()| std::io::stdin().read_line(&mut answer));
    read.map_err(|error| Failure::Problem(format!("the answer cannot be read: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
