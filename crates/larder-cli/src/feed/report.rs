//! What `larder feed apply` and `larder feed remove` tell.

use super::naming::unknown;
use super::selected::Selected;
use crate::output;
use larder::feed::{Applied, Done};
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// What became of the triggers of one feed's database. Its serialised form is a part of the output of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    feed: String,
    database: String,
    /// Whether larder's own tables were missing, and were made.
    made_tables: bool,
    /// The caches of which everything was forgotten.
    forgotten: Vec<String>,
    triggers: Vec<Trigger>,
    /// Caches and indexes of which nobody knows whether they exist.
    unchecked: Vec<(String, String)>,
}

#[derive(Debug, Serialize)]
struct Trigger {
    table: String,
    cache: String,
    trigger: String,
    done: &'static str,
}

impl Report {
    pub(super) fn of(feed: &Selected, applied: Applied, unchecked: Vec<(String, String)>) -> Self {
        let triggers = applied.triggers.into_iter().map(|change| Trigger {
            table: plain(&change.table),
            cache: change.cache,
            trigger: change.trigger,
            done: match change.done {
                Done::Made => "made",
                Done::Mended => "mended",
                Done::Kept => "kept",
                Done::Removed => "removed",
                _ => "left",
            },
        });
        Self {
            feed: feed.name.clone(),
            database: feed.place(),
            made_tables: applied.made_tables,
            forgotten: applied.forgotten,
            triggers: triggers.collect(),
            unchecked,
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("the feed {}, in {}:", self.feed, self.database)];
        if self.made_tables {
            lines.push("  made the schema larder with its tables".to_owned());
        }
        // What was done with how many triggers, for each table, and for which caches.
        let mut tables: BTreeMap<&str, (BTreeMap<&str, usize>, BTreeSet<&str>)> = BTreeMap::new();
        let (left, ours): (Vec<_>, Vec<_>) = self.triggers.iter().partition(|trigger| trigger.done == "left");
        for trigger in ours {
            let (done, caches) = tables.entry(&trigger.table).or_default();
            *done.entry(trigger.done).or_default() += 1;
            caches.insert(&trigger.cache);
        }
        if tables.is_empty() {
            lines.push("  nothing to do".to_owned());
        }
        for (table, (done, caches)) in tables {
            let done: Vec<String> = done.into_iter().map(|(done, count)| said(done, count)).collect();
            let caches: Vec<&str> = caches.into_iter().collect();
            lines.push(format!("  {table}: {} of the cache {}", done.join(", "), caches.join(" and ")));
        }
        if !self.forgotten.is_empty() {
            let caches = self.forgotten.join(" and ");
            lines.push(format!("  forgot everything in the cache {caches}: what changed before was not told"));
        }
        let mut others: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        left.iter().for_each(|trigger| *others.entry((&trigger.table, &trigger.cache)).or_default() += 1);
        for ((table, cache), count) in others {
            lines.push(format!(
                "  {table}: left {} of the cache {cache} as it was, which this command is not about",
                triggers(count)
            ));
        }
        lines.extend(self.unchecked.iter().map(|pair| format!("  {}", unknown(pair))));
        lines.join("\n")
    }
}

pub(super) fn tell(reports: &[Report], json: bool) {
    if json {
        output::line(json!({ "feeds": reports }));
    } else {
        output::line(reports.iter().map(Report::text).collect::<Vec<_>>().join("\n"));
    }
}

fn said(done: &str, count: usize) -> String {
    match done {
        "kept" => format!("{} as declared, not touched", triggers(count)),
        done => format!("{done} {}", triggers(count)),
    }
}

fn triggers(count: usize) -> String {
    format!("{count} {}", if count == 1 { "trigger" } else { "triggers" })
}

/// A table without the quotes that its name does not need.
fn plain(table: &str) -> String {
    let simple = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let parts: Option<Vec<&str>> =
        table.split("\".\"").map(|part| Some(part.trim_matches('"')).filter(|part| simple(part))).collect();
    parts.map_or_else(|| table.to_owned(), |parts| parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_stay_where_a_name_needs_them() {
        for (table, shown) in [
            ("\"app\".\"instances\"", "app.instances"),
            ("\"app\".\"Odd name\"", "\"app\".\"Odd name\""),
            ("\"a\"\"b\".\"c\"", "\"a\"\"b\".\"c\""),
        ] {
            assert_eq!(plain(table), shown);
        }
    }
}
