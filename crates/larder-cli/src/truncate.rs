//! `larder truncate`: forgets everything in a cache. `larder prune`: removes index keys that lead to no object.

use crate::failure::Failure;
use crate::target::{Server, Target};
use crate::{output, progress};
use clap::Args;
use larder::connector::redis::inspect::{InspectError, Inspector};
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
    let size = inspector.database_size().await?;
    if !options.yes && !agreed(&server, cache.name(), size)? {
        return Err(Failure::Problem("nothing was done".to_owned()));
    }
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
    if options.json {
        output::line(json!({ "cache": cache.name(), "truncated": true, "keys_removed": removed }));
    } else {
        output::line(format_args!("truncated the cache {}: {removed} keys removed", cache.name()));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn prune(options: Prune) -> Result<ExitCode, Failure> {
    let server = options.target.server_of(&options.cache)?;
    let inspector: Inspector = server.open().await?;
    let cache = inspector.cache(&options.cache).await?;
    let shown = progress::count("{spinner} {elapsed} {human_pos} index keys looked at, {msg} removed");
    let pruned = cache
        .prune(|progress| {
            shown.set_position(progress.found);
            shown.set_message(progress.removed.to_string());
        })
        .await;
    shown.finish_and_clear();
    let pruned = pruned?;
    if options.json {
        output::line(json!({ "cache": cache.name(), "index_keys": pruned.found, "keys_removed": pruned.removed }));
    } else {
        let (found, removed) = (pruned.found, pruned.removed);
        output::line(format_args!("pruned the cache {}: {removed} of {found} index keys removed", cache.name()));
    }
    Ok(ExitCode::SUCCESS)
}

fn agreed(server: &Server, cache: &str, size: Option<u64>) -> Result<bool, Failure> {
    let size = size.map_or_else(String::new, |size| format!(" ({size} keys in the database)"));
    eprint!("Forget everything in the cache `{cache}` on {}{size}? Services load it again. [y/N] ", server.place());
    let mut answer = String::new();
    let read = std::io::stderr().flush().and_then(|()| std::io::stdin().read_line(&mut answer));
    read.map_err(|error| Failure::Problem(format!("the answer cannot be read: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
