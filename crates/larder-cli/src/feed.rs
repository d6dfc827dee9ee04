//! `larder feed`: the triggers that tell a feed when tables change that objects are built from.
//!
//! ```text
//!   Config ──► selected.rs ──► naming.rs: do services have these caches and indexes? ──► Sources::sql, apply, remove ──► report.rs
//! ```

mod naming;
mod report;
mod selected;

pub(crate) use naming::{names, unknown};
pub(crate) use selected::Selected;

use crate::failure::Failure;
use crate::output;
use clap::{Args, Subcommand};
use larder::feed::SourceError;
use report::Report;
use selected::Selection;
use serde_json::json;
use std::process::ExitCode;

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Task {
    /// Prints the SQL of the triggers, and changes nothing
    ///
    /// The SQL is one transaction, and can be run again. larder's own tables have to be there: see `larder postgres setup`. Exit code 0:
    /// printed. 1: a source cannot be told of, or the database cannot be asked; the reason is printed. 2: the command or the configuration cannot
    /// be used.
    ///
    /// larder feed sql -c caches.yaml
    Sql(Install),
    /// Installs the triggers, in one transaction for each database
    ///
    /// It makes larder's own tables where they are missing, unless `create` is false. Triggers that are as declared are not touched.
    /// Triggers of the same caches that the configuration no longer declares are removed; those of other caches are left. A cache that gets a
    /// trigger is emptied, since changes from before were not told. Writers to the tables wait
    /// while a trigger is made. Exit code 0: done. 1: not done, and nothing was changed in the database that the reason names. 2: the command or
    /// the configuration cannot be used.
    ///
    /// larder feed apply -c caches.yaml
    Apply(Install),
    /// Removes the triggers of the caches that the configuration declares sources for
    ///
    /// Services miss changes from then on, unless somebody calls larder.invalidate. Exit codes as for apply.
    Remove(Remove),
}

/// The arguments of `larder feed sql` and `larder feed apply`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Install {
    #[command(flatten)]
    selection: Selection,
    /// Take the names of caches and indexes as they are, although services have registered others: for a release that has not run yet
    #[arg(long)]
    new_names: bool,
}

/// The arguments of `larder feed remove`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Remove {
    #[command(flatten)]
    selection: Selection,
    /// Instead, remove every trigger of larder that the configuration does not declare, also those of other caches: no other service may need them
    #[arg(long)]
    undeclared: bool,
}

pub(crate) async fn run(task: Task) -> Result<ExitCode, Failure> {
    match task {
        Task::Sql(options) => sql(options).await,
        Task::Apply(options) => apply(options).await,
        Task::Remove(options) => remove(options).await,
    }
}

async fn sql(options: Install) -> Result<ExitCode, Failure> {
    let selected = options.selection.selected()?;
    let mut printed = Vec::new();
    for feed in &selected {
        expect_names(feed, options.new_names).await?;
        let sql = feed.sources.sql(&feed.database).await.map_err(|error| feed.failed(&error))?;
        let begin = format!("-- The feed {}, in {}.\nBEGIN;\n", feed.name, feed.place());
        printed.push((feed, format!("{begin}\n{sql}\nCOMMIT;\n")));
    }
    if options.selection.json {
        let feeds =
            printed.iter().map(|(feed, sql)| json!({ "feed": feed.name, "database": feed.place(), "sql": sql }));
        output::line(json!({ "feeds": feeds.collect::<Vec<_>>() }));
    } else {
        let all: Vec<_> = printed.iter().map(|(_, sql)| sql.trim_end()).collect();
        output::line(all.join("\n\n"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn apply(options: Install) -> Result<ExitCode, Failure> {
    let selected = options.selection.selected()?;
    // Everything is looked up before anything is changed.
    let mut unchecked = Vec::new();
    for feed in &selected {
        unchecked.push(expect_names(feed, options.new_names).await?);
    }
    let mut reports = Vec::new();
    for (feed, unchecked) in selected.iter().zip(unchecked) {
        let applied = feed.sources.apply(&feed.database).await.map_err(|error| feed.failed(&error))?;
        reports.push(Report::of(feed, applied, unchecked));
    }
    report::tell(&reports, options.selection.json);
    Ok(ExitCode::SUCCESS)
}

async fn remove(options: Remove) -> Result<ExitCode, Failure> {
    let mut reports = Vec::new();
    for feed in &options.selection.selected()? {
        let removed = match options.undeclared {
            true => feed.sources.remove_undeclared(&feed.database).await,
            false => feed.sources.remove(&feed.database).await,
        };
        reports.push(Report::of(feed, removed.map_err(|error| feed.failed(&error))?, Vec::new()));
    }
    report::tell(&reports, options.selection.json);
    Ok(ExitCode::SUCCESS)
}

/// Refuses names that no service has, and answers the indexes of which nobody knows whether they exist.
async fn expect_names(feed: &Selected, new_names: bool) -> Result<Vec<(String, String)>, Failure> {
    let names = naming::names(feed).await.map_err(|error| feed.failed(&error))?;
    if !names.wrong.is_empty() && !new_names {
        let lines = names.wrong.iter().map(|(_, wrong)| format!("{wrong}; --new-names takes it as it is"));
        return Err(Failure::Problem(lines.collect::<Vec<_>>().join("\n")));
    }
    Ok(names.unchecked)
}

impl Selected {
    fn failed(&self, error: &SourceError) -> Failure {
        let lines = error.to_string();
        let lines = lines.lines().map(|line| format!("the feed {}, in {}: {line}", self.name, self.place()));
        Failure::Problem(lines.collect::<Vec<_>>().join("\n"))
    }
}
