//! Counts the keys of each cache on a Redis server.

mod server;

use crate::failure::Failure;
use crate::progress;
use crate::server::open_redis;
use indicatif::{HumanBytes, HumanCount};
use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect::{CacheCensus, ClockReading, Tally};
use serde::Serialize;
use server::ServerFacts;
use std::fmt::Write;

/// The result. Its serialised form is the output of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    address: String,
    database: u32,
    prefix: String,
    server: ServerFacts,
    caches: Vec<Cache>,
}

#[derive(Debug, Serialize)]
struct Cache {
    cache: String,
    /// Missing if the clock is lost or cannot be read.
    clock: Option<Clock>,
    /// Why the clock cannot be read.
    trouble: Option<String>,
    /// The size of all the cache's keys, estimated from samples. Missing if the server does not tell.
    bytes: Option<u64>,
    /// One row per release.
    objects: Vec<Objects>,
    index_keys: Vec<IndexKeys>,
    /// Lowest versions that invalidations demand.
    floors: Count,
    /// Large objects whose bytes are still being sent.
    staged: Count,
}

#[derive(Debug, Serialize)]
struct Clock {
    epoch: u64,
    sequence: u64,
    state: &'static str,
    /// Whether the clock is of the server's present history. If not, the next service that connects clears the cache. Missing if the server
    /// does not tell.
    of_this_history: Option<bool>,
    /// How many marks of touched keys the log holds.
    fences: u64,
    bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Objects {
    fingerprint: String,
    /// Whether the clock lists the release. If not, an invalidation does not reach the release's objects.
    registered: bool,
    /// The names of the release's indexes, the primary index first. Missing if the server does not have them.
    indexes: Option<Vec<String>>,
    #[serde(flatten)]
    count: Count,
}

#[derive(Debug, Serialize)]
struct IndexKeys {
    index: String,
    #[serde(flatten)]
    count: Count,
}

#[derive(Debug, Serialize)]
struct Count {
    keys: u64,
    /// Estimated from samples.
    bytes: Option<u64>,
}

pub(super) async fn look(server: &RedisOptions, cache: Option<&str>) -> Result<Report, Failure> {
    let inspector = open_redis(server).await?;
    let one = match cache {
        Some(cache) => Some(inspector.cache(cache).await?.name().to_owned()),
        None => None,
    };
    let facts = server::ask(server).await?;
    let counted = progress::count("{spinner} {elapsed} {human_pos} keys counted");
    let census = inspector.census(one.as_deref(), |progress| counted.set_position(progress.found)).await;
    counted.finish_and_clear();
    Ok(Report {
        address: server.place(),
        database: server.database,
        prefix: server.prefix.clone(),
        server: facts,
        caches: census?.into_iter().map(Cache::of).collect(),
    })
}

impl Cache {
    fn of(census: CacheCensus) -> Self {
        let bytes = census.bytes();
        let registered = census.clock.as_ref().map_or(&[][..], |clock| &clock.fingerprints);
        // A registered release that has stored nothing has a row, too.
        let mut objects = census.objects.clone();
        for release in registered {
            objects.entry(*release).or_insert_with(Tally::empty);
        }
        let objects = objects.iter().map(|(release, tally)| Objects {
            fingerprint: format!("{release:016x}"),
            registered: registered.contains(release),
            indexes: census.indexes.get(release).cloned().flatten(),
            count: Count::of(tally),
        });
        Self {
            bytes,
            objects: objects.collect(),
            index_keys: census
                .index_keys
                .into_iter()
                .map(|(index, tally)| IndexKeys { index, count: Count::of(&tally) })
                .collect(),
            floors: Count::of(&census.floors),
            staged: Count::of(&census.staged),
            trouble: census.trouble,
            clock: census.clock.map(|clock| Clock::of(&clock, census.clock_bytes)),
            cache: census.cache,
        }
    }
}

impl Clock {
    fn of(clock: &ClockReading, bytes: Option<u64>) -> Self {
        Self {
            epoch: clock.epoch,
            sequence: clock.sequence,
            state: clock.state.name(),
            of_this_history: clock.of_this_history,
            fences: clock.sequence.min(ClockReading::LOG),
            bytes,
        }
    }
}

impl Count {
    fn of(tally: &Tally) -> Self {
        Self { keys: tally.keys, bytes: tally.bytes }
    }

    fn text(&self) -> String {
        let bytes = self.bytes.map_or_else(|| "size unknown".to_owned(), |bytes| HumanBytes(bytes).to_string());
        format!("{}, {bytes}", HumanCount(self.keys))
    }
}

impl Report {
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}, database {}, prefix {}\n", self.address, self.database, self.prefix);
        text += &self.server.text();
        if self.caches.is_empty() {
            text += "\nno caches here\n";
        }
        for cache in &self.caches {
            // Writing to a string cannot fail.
            let _ = cache.write(&mut text);
        }
        text
    }
}

impl Cache {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let bytes = self.bytes.map_or_else(String::new, |bytes| format!(", about {}", HumanBytes(bytes)));
        writeln!(text, "\ncache {}{bytes}", self.cache)?;
        match (&self.clock, &self.trouble) {
            (None, Some(trouble)) => writeln!(text, "  TROUBLE    {trouble}")?,
            (None, None) => writeln!(
                text,
                "  clock      lost: if these keys are larder's, the next service that connects or loads clears the cache"
            )?,
            (Some(clock), _) => {
                let history = match clock.of_this_history {
                    Some(true) => "",
                    Some(false) => {
                        ", of an earlier history of the server: the next service that connects clears the cache"
                    }
                    None => ", of a history that the server does not tell",
                };
                let Clock { state, epoch, sequence, fences, .. } = clock;
                writeln!(text, "  clock      {state}{history}, epoch {epoch}, sequence {sequence}, {fences} fences")?;
            }
        }
        for release in &self.objects {
            let lost = if release.registered { "" } else { ", not registered: no invalidation reaches them" };
            let indexes = release.indexes.as_ref().map_or_else(String::new, |names| format!(" ({})", names.join(", ")));
            writeln!(text, "  objects    {} of release {}{indexes}{lost}", release.count.text(), release.fingerprint)?;
        }
        for index in &self.index_keys {
            writeln!(text, "  index keys {} of {}", index.count.text(), index.index)?;
        }
        for (name, count) in [("floors", &self.floors), ("staged", &self.staged)] {
            if count.keys > 0 {
                writeln!(text, "  {name:10} {}", count.text())?;
            }
        }
        Ok(())
    }
}
