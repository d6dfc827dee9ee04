//! Counts what each cache has on a server, by a walk through all keys of the server.

use crate::connector::redis::inspect::{
    ClockReading, InspectError, InspectedCache, Inspector, Progress, is_name, layout, split, text,
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

/// What one cache has on the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheCensus {
    /// The cache's name.
    pub cache: String,
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
    /// # Errors
    ///
    /// [`InspectError::Server`].
    pub async fn census(
        &self,
        cache: Option<&str>,
        mut progress: impl FnMut(Progress),
    ) -> Result<Vec<CacheCensus>, InspectError> {
        let base = format!("{}:", self.config.prefix);
        let pattern = cache
            .map_or_else(|| layout::pattern(&base, b"*"), |cache| layout::pattern(&format!("{base}{cache}:"), b"*"));
        // The second part of a value says whether the key of the clock exists.
        let mut found: BTreeMap<String, (CacheCensus, bool)> = BTreeMap::new();
        let mut so_far = Progress::default();
        self.walk(&pattern, async |names| {
            for name in names {
                let Some(rest) = name.strip_prefix(base.as_bytes()) else { continue };
                let Some((cache, rest)) = split(rest, b':') else { continue };
                let cache = text(cache);
                let Some((kind, rest)) = rest.split_first().filter(|_| is_name(&cache)) else { continue };
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
            progress(so_far);
            Ok(())
        })
        .await?;
        let mut census = Vec::with_capacity(found.len());
        for (name, (mut counted, clock)) in found {
            // Keys that are not larder's may look like floors or parts of objects. Alone they are no cache.
            if !clock && counted.objects.is_empty() && counted.index_keys.is_empty() {
                continue;
            }
            let cache = InspectedCache { server: self, name: name.clone(), layout: self.layout(&name, "") };
            counted.cache = name;
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
                true => self.memory(&[cache.layout.clock().into_bytes()]).await?,
                false => Some(0),
            };
            let tallies = counted.objects.values_mut().chain(counted.index_keys.values_mut());
            for tally in tallies.chain([&mut counted.floors, &mut counted.staged]) {
                let sample = std::mem::take(&mut tally.sample);
                tally.bytes = self.memory(&sample).await?.map(|mean| mean * tally.keys);
            }
            census.push(counted);
        }
        Ok(census)
    }

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
