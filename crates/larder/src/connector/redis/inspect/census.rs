//! What there is of each cache on a server, counted by walking through all of its keys.

use crate::connector::redis::inspect::{
    ClockReading, InspectError, InspectedCache, Inspector, Progress, is_name, layout, split, text,
};
use redis::{Pipeline, Value};
use std::collections::BTreeMap;

/// Keys of one kind whose memory is asked for; the others are taken to be like them.
const SAMPLE: usize = 100;

/// Keys of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there are.
    pub keys: u64,
    /// What they take of the server's memory, in bytes, by that of up to 100 of them. `None`: the server does not tell us.
    pub bytes: Option<u64>,
    sample: Vec<Vec<u8>>,
}

/// What there is of one cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheCensus {
    /// The cache's name.
    pub cache: String,
    /// What its clock says; `None`: it is lost, or cannot be read.
    pub clock: Option<ClockReading>,
    /// Why the clock cannot be read, where that is so: no service can use the cache then.
    pub trouble: Option<String>,
    /// The indexes that each release in the clock has registered, the primary one first; `None`: the server does not have them.
    pub indexes: BTreeMap<u64, Option<Vec<String>>>,
    /// What the clock takes, in bytes.
    pub clock_bytes: Option<u64>,
    /// The objects of each release, by its fingerprint.
    pub objects: BTreeMap<u64, Tally>,
    /// The index keys, by the name of the index.
    pub index_keys: BTreeMap<String, Tally>,
    /// Floors under the version that invalidations have left; they last a minute.
    pub floors: Tally,
    /// Large objects on their way in; they last a minute at most.
    pub staged: Tally,
}

impl CacheCensus {
    /// All of its memory, in bytes, as far as the server tells.
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
    /// No keys, which take nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self { bytes: Some(0), ..Self::default() }
    }

    /// Counts a key. Any key counted so far is as likely as any other to be in the sample.
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
    /// Counts what each cache under the prefix, or one of them, has on the server. What changes meanwhile may be counted or not,
    /// or twice.
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
        // With whether there is something where the clock should be.
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
            // Somebody else's keys may look like one of larder's.
            if !clock && counted.objects.is_empty() && counted.index_keys.is_empty() {
                continue;
            }
            let cache = InspectedCache { server: self, name: name.clone(), layout: self.layout(&name, "") };
            counted.cache = name;
            match cache.clock().await {
                Ok(clock) => counted.clock = clock,
                // Of this cache only: the others are counted all the same.
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

    /// What one of these keys takes on average. `None` where the server does not tell.
    async fn memory(&self, names: &[Vec<u8>]) -> Result<Option<u64>, InspectError> {
        if names.is_empty() {
            return Ok(Some(0));
        }
        let mut usage = Pipeline::with_capacity(names.len());
        for name in names {
            usage.cmd("MEMORY").arg("USAGE").arg(name);
        }
        let replies = self.caller().pipeline(&usage).await.map_err(|trouble| self.error(&trouble))?;
        // A key that has gone meanwhile is no error; a command that is not allowed is.
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
