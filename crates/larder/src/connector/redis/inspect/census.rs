//! Counts what each cache has on a server, by a walk through all keys of the server; in a cluster, of one primary after the other.

use crate::connector::redis::inspect::server::Server;
use crate::connector::redis::inspect::{
    ClockReading, InspectError, Inspector, Placement, Progress, layout, split, text,
};
use redis::{Pipeline, Value};
use std::collections::BTreeMap;

/// For so many keys of a kind the server is asked how much memory they take. The other keys are taken to be like them.
const SAMPLE: usize = 100;

/// Keys of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there are.
    pub keys: u64,
    /// How much of the server's memory they take, in bytes, estimated from up to 100 of them. `None`: the server does not tell.
    pub bytes: Option<u64>,
    sample: Vec<Vec<u8>>,
}

/// What the caches have on a server, or in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// Each cache that was found.
    pub caches: Vec<CacheCensus>,
    /// What could not be looked at, and why: primaries of a cluster that cannot be reached, and slots that nobody serves. Unless this is empty, the
    /// census is not complete.
    pub unseen: Vec<String>,
}

/// What one cache has on the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheCensus {
    /// The cache's name.
    pub cache: String,
    /// In a cluster: the slot of the cache, and the primary that has it. `None` also if the primary cannot be reached.
    pub placement: Option<Placement>,
    /// What the clock says. `None`: the clock is lost, or cannot be read.
    pub clock: Option<ClockReading>,
    /// Why the clock cannot be read. No service can use the cache then. `None`: the clock can be read, or is lost.
    pub trouble: Option<String>,
    /// The indexes that each release in the clock has registered, the primary index first. `None`: the server does not have the names.
    pub indexes: BTreeMap<u64, Option<Vec<String>>>,
    /// How much memory the clock takes, in bytes.
    pub clock_bytes: Option<u64>,
    /// The objects of each release, by its fingerprint.
    pub objects: BTreeMap<u64, Tally>,
    /// The index keys, by the name of the index.
    pub index_keys: BTreeMap<String, Tally>,
    /// Lowest versions that invalidations have demanded. They last a minute.
    pub floors: Tally,
    /// Large objects whose parts are still being written. They last a minute at most.
    pub staged: Tally,
}

impl CacheCensus {
    /// How much memory the cache takes in all, in bytes. `None`: the server does not tell.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        let tallies = self.objects.values().chain(self.index_keys.values()).chain([&self.floors, &self.staged]);
        tallies.map(|tally| tally.bytes).chain([self.clock_bytes]).sum()
    }

    fn tally(&mut self, kind: u8, rest: &[u8]) -> Option<&mut Tally> {
        match kind {
            b'o' => {
                let (fingerprint, _) = split(rest, b':').filter(|(digits, _)| digits.len() == 16)?;
                let fingerprint = u64::from_str_radix(std::str::from_utf8(fingerprint).ok()?, 16).ok()?;
                Some(self.objects.entry(fingerprint).or_default())
            }
            b'i' => split(rest, b':').map(|(index, _)| self.index_keys.entry(text(index)).or_default()),
            b'v' => Some(&mut self.floors),
            b's' if rest.len() == 32 && rest.iter().all(u8::is_ascii_hexdigit) => Some(&mut self.staged),
            _ => None,
        }
    }
}

impl Tally {
    /// A tally of no keys, which take no memory.
    #[must_use]
    pub fn empty() -> Self {
        Self { bytes: Some(0), ..Self::default() }
    }

    /// Counts a key. Each key that was counted so far is equally likely to be in the sample.
    fn count(&mut self, name: Vec<u8>) {
        self.keys += 1;
        if self.sample.len() < SAMPLE {
            self.sample.push(name);
        } else {
            let place = usize::try_from(fastrand::u64(..self.keys)).unwrap_or(usize::MAX);
            if let Some(place) = self.sample.get_mut(place) {
                *place = name;
            }
        }
    }
}

impl Inspector {
    /// Counts what each cache under the prefix, or only the given cache, has on the server. A key that changes meanwhile may be counted
    /// once, twice or not at all.
    ///
    /// In a cluster all primaries are counted, or only that of the given cache. A primary that cannot be reached is left out:
    /// see [`Census::unseen`].
    ///
    /// # Errors
    ///
    /// [`InspectError::Server`].
    pub async fn census(
        &self,
        cache: Option<&str>,
        mut progress: impl FnMut(Progress),
    ) -> Result<Census, InspectError> {
        let base = self.before_caches();
        // The second part of a value says whether the key of the clock exists.
        let mut found: BTreeMap<String, (CacheCensus, bool)> = BTreeMap::new();
        let mut so_far = Progress::default();
        let mut count = |names: Vec<Vec<u8>>, primary| {
            for name in names {
                let Some((cache, rest)) = name.strip_prefix(base.as_bytes()).and_then(|name| self.cache_of(name))
                else {
                    continue;
                };
                let Some((kind, rest)) = rest.split_first() else { continue };
                if (*kind, rest) == (b'c', &[]) {
                    found.entry(cache).or_default().1 = true;
                } else {
                    match found.entry(cache).or_default().0.tally(*kind, rest) {
                        Some(tally) => tally.count(name),
                        None => continue,
                    }
                }
                so_far.found += 1;
            }
            so_far.primary = primary;
            progress(so_far);
        };
        let mut unseen = Vec::new();
        if let Some(cache) = cache {
            let cache = self.named(cache).await?;
            let all = cache.layout.all();
            let walked = cache.server.walk(&all, async |names| {
                count(names, None);
                Ok(())
            });
            walked.await?;
        } else {
            let all = layout::pattern(&base, b"*");
            let walked = self.walk_everywhere(&all, async |names, primary| {
                count(names, primary);
                Ok(())
            });
            unseen = walked.await?;
        }
        let mut caches = Vec::with_capacity(found.len());
        for (name, (mut counted, clock)) in found {
            // Keys that are not larder's may look like floors or parts of objects. Alone they are no cache.
            if !clock && counted.objects.is_empty() && counted.index_keys.is_empty() {
                continue;
            }
            counted.cache = name;
            match self.complete(&mut counted, clock).await {
                // The server was there a moment ago. The other caches of a cluster are counted all the same.
                Err(error @ InspectError::Server { .. }) if self.is_cluster() => {
                    counted.trouble = Some(error.to_string());
                    unseen.push(error.to_string());
                }
                done => done?,
            }
            caches.push(counted);
        }
        unseen.dedup();
        Ok(Census { caches, unseen })
    }

    /// Adds to what was counted what the clock of the cache says, and how much memory its keys take. `clock`: whether there is a key of that
    /// name.
    async fn complete(&self, counted: &mut CacheCensus, clock: bool) -> Result<(), InspectError> {
        let cache = self.named(&counted.cache).await?;
        counted.placement = cache.placement().cloned();
        match cache.clock().await {
            Ok(clock) => counted.clock = clock,
            // An error of the server ends the census. Any other error concerns only this clock, and the other caches are still
            // counted.
            Err(error @ InspectError::Server { .. }) => return Err(error),
            Err(error) => counted.trouble = Some(error.to_string()),
        }
        let releases = counted.clock.as_ref().map_or(&[][..], |clock| &clock.fingerprints);
        counted.indexes = cache.names_of(releases).await?;
        for index in counted.indexes.values().flatten().flat_map(|names| names.iter().skip(1)) {
            counted.index_keys.entry(index.clone()).or_default();
        }
        counted.clock_bytes = match clock {
            true => cache.server.memory(&[cache.layout.clock().into_bytes()]).await?,
            false => Some(0),
        };
        let tallies = counted.objects.values_mut().chain(counted.index_keys.values_mut());
        for tally in tallies.chain([&mut counted.floors, &mut counted.staged]) {
            let sample = std::mem::take(&mut tally.sample);
            tally.bytes = cache.server.memory(&sample).await?.map(|mean| mean * tally.keys);
        }
        Ok(())
    }
}

impl Server {
    /// How many bytes one of these keys takes on average. `None`: the server does not tell.
    async fn memory(&self, names: &[Vec<u8>]) -> Result<Option<u64>, InspectError> {
        if names.is_empty() {
            return Ok(Some(0));
        }
        let mut usage = Pipeline::with_capacity(names.len());
        for name in names {
            usage.cmd("MEMORY").arg("USAGE").arg(name);
        }
        let replies = self.caller().pipeline(&usage).await.map_err(|trouble| self.error(&trouble))?;
        // A key that has gone meanwhile is left out. Any other reply that is no number makes the whole `None`.
        let sizes = replies.into_iter().filter(|reply| !matches!(reply, Value::Nil));
        let sizes: Option<Vec<u64>> = sizes
            .map(|reply| match reply {
                Value::Int(size) => u64::try_from(size).ok(),
                _ => None,
            })
            .collect();
        Ok(sizes.map(|sizes| sizes.iter().sum::<u64>() / (sizes.len() as u64).max(1)))
    }
}
