//! Counts the keys of each cache on a Redis server, or on each primary of a cluster.

mod server;

use crate::failure::Failure;
use crate::progress;
use crate::server::{open_redis, place};
use indicatif::{HumanBytes, HumanCount};
use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect::{CacheCensus, ClockReading, Followers, InspectedCache, Tally};
use serde::Serialize;
use server::ServerFacts;
use std::fmt::Write;

/// The result. Its serialised form is the output of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    address: String,
    database: u32,
    prefix: String,
    /// Missing for a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerFacts>,
    /// For a cluster only.
    #[serde(flatten)]
    cluster: Option<Cluster>,
    caches: Vec<Cache>,
    /// The place, for people.
    #[serde(skip)]
    place: String,
}

#[derive(Debug, Serialize)]
struct Cluster {
    /// Every primary; for one cache, the primary that has it.
    primaries: Vec<Primary>,
    /// What could not be counted, and why.
    not_counted: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Primary {
    address: String,
    server: Option<ServerFacts>,
    /// Why the primary tells nothing.
    trouble: Option<String>,
}

/// Where a cache of a cluster is.
#[derive(Debug, Serialize)]
struct Placed {
    slot: u16,
    primary: String,
}

#[derive(Debug, Serialize)]
struct Cache {
    cache: String,
    /// For a cluster only.
    #[serde(flatten)]
    placed: Option<Placed>,
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
    /// Missing if no node keeps the cache in its own memory.
    followed: Option<Followed>,
}

/// How nodes keep the cache in their own memory.
#[derive(Debug, Serialize)]
struct Followed {
    /// What a change waits for.
    consistency: String,
    validity_ms: u64,
    /// Empty unless the consistency is strict: only then nodes say what they know.
    followers: Vec<Follower>,
}

#[derive(Debug, Serialize)]
struct Follower {
    id: String,
    /// How many marks of the log it had not applied when it last followed. Missing if it follows an earlier epoch: it forgets everything.
    behind: Option<u64>,
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

pub(super) async fn look(options: &RedisOptions, cache: Option<&str>) -> Result<Report, Failure> {
    let inspector = open_redis(options).await?;
    let one = match cache {
        Some(cache) => Some(inspector.cache(cache).await?),
        None => None,
    };
    let (server, primaries) = if options.cluster.is_some() {
        let placement = one.as_ref().and_then(InspectedCache::placement);
        let is_shown = |node: &RedisOptions| placement.is_none_or(|placement| placement.primary == node.address);
        let mut primaries = Vec::new();
        for node in inspector.primaries().into_iter().filter(is_shown) {
            primaries.push(Primary::of(&node).await);
        }
        (None, Some(primaries))
    } else {
        (Some(server::ask(options).await?), None)
    };
    let counted = progress::count("{spinner} {elapsed} {human_pos} keys counted{msg}");
    let census = inspector.census(one.as_ref().map(InspectedCache::name), |progress| {
        counted.set_position(progress.found);
        if let Some((number, all)) = progress.primary {
            counted.set_message(format!(", on primary {number} of {all}"));
        }
    });
    let census = census.await;
    counted.finish_and_clear();
    let census = census?;
    Ok(Report {
        address: options.place(),
        database: options.database,
        prefix: options.prefix.clone(),
        server,
        cluster: primaries.map(|primaries| Cluster { primaries, not_counted: census.unseen }),
        caches: census.caches.into_iter().map(Cache::of).collect(),
        place: place(options),
    })
}

impl Primary {
    async fn of(node: &RedisOptions) -> Self {
        let (server, trouble) = match server::ask(node).await {
            Ok(facts) => (Some(facts), None),
            Err(failure) => (None, Some(failure.to_string())),
        };
        Self { address: node.place(), server, trouble }
    }

    fn text(&self) -> String {
        let mut text = format!("  primary    {}\n", self.address);
        text += &self.server.as_ref().map_or_else(String::new, ServerFacts::text);
        text += &self.trouble.as_ref().map_or_else(String::new, |trouble| format!("  TROUBLE    {trouble}\n"));
        text
    }
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
        let placed = census.placement.map(|place| Placed { slot: place.slot, primary: place.primary.to_string() });
        Self {
            placed,
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
            followed: clock.followers.as_ref().map(Followed::of),
        }
    }
}

impl Followed {
    fn of(followers: &Followers) -> Self {
        let nodes = followers.nodes.iter();
        Self {
            consistency: followers.consistency.to_string(),
            validity_ms: u64::try_from(followers.validity.as_millis()).unwrap_or(u64::MAX),
            followers: nodes.map(|node| Follower { id: format!("{:016x}", node.id), behind: node.behind }).collect(),
        }
    }

    /// `2 (strict, validity 1000 ms): 00000000000000ab knows all, 00000000000000cd is 3 marks behind`.
    fn text(&self) -> String {
        let Self { consistency, validity_ms, followers } = self;
        let terms = format!("({consistency}, validity {validity_ms} ms)");
        if followers.is_empty() {
            return if consistency == "strict" {
                format!("none {terms}")
            } else {
                format!("not counted {terms}: no change waits for them, so they do not say what they know")
            };
        }
        let told = followers.iter().map(|Follower { id, behind }| match behind {
            None => format!("{id} follows an earlier epoch"),
            Some(0) => format!("{id} knows all"),
            Some(1) => format!("{id} is 1 mark behind"),
            Some(behind) => format!("{id} is {behind} marks behind"),
        });
        format!("{} {terms}: {}", followers.len(), told.collect::<Vec<_>>().join(", "))
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
    /// What could not be counted, and why.
    pub(super) fn unseen(&self) -> &[String] {
        self.cluster.as_ref().map_or(&[], |cluster| &cluster.not_counted)
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.place);
        text += &self.server.as_ref().map_or_else(String::new, ServerFacts::text);
        let primaries = self.cluster.iter().flat_map(|cluster| &cluster.primaries);
        text += &primaries.map(Primary::text).collect::<Vec<_>>().join("\n");
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
        if let Some(Placed { slot, primary }) = &self.placed {
            writeln!(text, "  slot       {slot}, on {primary}")?;
        }
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
                if let Some(followed) = &clock.followed {
                    writeln!(text, "  followers  {}", followed.text())?;
                }
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
