//! What is known of an index of which somebody has given the name: what the cache's releases have registered, or else what keys and objects
//! show.

use crate::connector::redis::index_names;
use crate::connector::redis::inspect::object::FoundObject;
use crate::connector::redis::inspect::{InspectError, InspectedCache, InspectedIndex, bytes, clearing, split, text};
use crate::connector::redis::wire::caller::Caller;
use crate::connector::redis::wire::replies::tolerated;
use redis::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Objects that are asked for the name of the primary index; all of them must agree.
const SAMPLE: u32 = 8;

/// The positions of an index of which only the name is known.
pub(super) const PRIMARY: u8 = 0;
pub(super) const SECONDARY: u8 = 1;

/// What an index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Primary,
    Secondary,
    /// The primary one of some releases, and another of others.
    Both,
    /// Nothing shows it, and not every release has registered its indexes: it may be either, or none.
    Unproven,
    /// Every release has registered its indexes, and it is none of them.
    Absent,
}

impl Standing {
    pub(super) fn positions(self) -> &'static [u8] {
        match self {
            Self::Primary => &[PRIMARY],
            Self::Secondary => &[SECONDARY],
            Self::Both | Self::Unproven | Self::Absent => &[PRIMARY, SECONDARY],
        }
    }
}

/// The indexes of each release, the primary one first; nothing where the server does not have them.
pub(super) type Registered = BTreeMap<u64, Option<Vec<String>>>;

/// By what was registered alone; `None`: it does not say.
fn registered(releases: &Registered, name: &str) -> Option<Standing> {
    let is = |place: fn(usize) -> bool| {
        let mut indexes = releases.values().flatten().flat_map(|names| names.iter().enumerate());
        indexes.any(|(position, other)| place(position) && other == name)
    };
    match (is(|position| position == 0), is(|position| position > 0)) {
        (true, true) => Some(Standing::Both),
        (true, false) => Some(Standing::Primary),
        (false, true) => Some(Standing::Secondary),
        (false, false) if !releases.is_empty() && releases.values().all(Option::is_some) => Some(Standing::Absent),
        (false, false) => None,
    }
}

impl<'a> InspectedCache<'a> {
    /// The names of the indexes of each release that the clock lists, by its fingerprint, the primary index first. `None`: the server does
    /// not have them.
    ///
    /// # Errors
    ///
    /// [`InspectError::ForeignClock`], [`InspectError::DamagedClock`], [`InspectError::Server`].
    pub async fn index_names(&self) -> Result<BTreeMap<u64, Option<Vec<String>>>, InspectError> {
        let releases = self.clock().await?.map(|clock| clock.fingerprints).unwrap_or_default();
        self.names_of(&releases).await
    }

    pub(super) async fn names_of(&self, releases: &[u64]) -> Result<Registered, InspectError> {
        if releases.is_empty() {
            return Ok(Registered::new());
        }
        let mut get = redis::cmd("MGET");
        for release in releases {
            get.arg(self.layout.index_names_of(*release));
        }
        let kept = tolerated(self.server.caller().call(&get).await);
        let mut names = match kept.map_err(|trouble| self.server.error(&trouble))? {
            Some(Value::Array(kept)) => kept,
            _ => Vec::new(),
        }
        .into_iter()
        .map(|kept| bytes(kept).and_then(|kept| index_names::read(&kept)));
        Ok(releases.iter().map(|release| (*release, names.next().flatten())).collect())
    }

    /// An index, by its name. Whether the server [shows](InspectedIndex::is_proven) that there is one is for the caller to look at: with
    /// a wrong name nothing is found, and an invalidation forgets nothing and refuses no load that is under way.
    ///
    /// # Errors
    ///
    /// [`InspectError::ForeignClock`], [`InspectError::DamagedClock`], [`InspectError::Server`].
    pub async fn index(&self, name: &str) -> Result<InspectedIndex<'a>, InspectError> {
        let releases = self.index_names().await?;
        let mut seen: BTreeSet<String> = releases.values().flatten().flatten().cloned().collect();
        let standing = match registered(&releases, name) {
            Some(standing) => standing,
            None => self.shown(name, &mut seen).await?,
        };
        Ok(InspectedIndex::new(self, name, standing, seen.into_iter().collect(), releases))
    }

    /// What keys and objects show of an index; the names of others are added to `seen`.
    async fn shown(&self, name: &str, seen: &mut BTreeSet<String>) -> Result<Standing, InspectError> {
        let (mut asked, mut agreed) = (0, 0);
        let mut cursor = b"0".to_vec();
        loop {
            let (next, keys) = clearing::scan(&self.server.caller(), &cursor, &self.layout.objects_and_index_keys())
                .await
                .map_err(|trouble| self.server.error(&trouble))?;
            for key in &keys {
                if let Some(index) = self.index_name_of(key) {
                    seen.insert(text(index));
                } else if asked < SAMPLE
                    && let Some(object) = self.object(key).await
                {
                    seen.extend(object.keys.iter().filter_map(|key| key.index.clone()));
                    asked += 1;
                    agreed += u32::from(object.primary_is_field(name));
                }
            }
            if seen.contains(name) {
                return Ok(Standing::Secondary);
            } else if agreed == asked && (asked == SAMPLE || asked > 0 && next == b"0") {
                return Ok(Standing::Primary);
            } else if next == b"0" {
                return Ok(Standing::Unproven);
            }
            cursor = next;
        }
    }

    fn index_name_of<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        let name = key.get(self.layout.before_index()..)?;
        let is_index_key = key.get(self.layout.before_index() - 1) == Some(&b'i');
        split(name, b':').filter(|_| is_index_key).map(|(name, _)| name)
    }

    /// The object that is stored under this name, if it can be read.
    async fn object(&self, name: &[u8]) -> Option<FoundObject> {
        let stored = bytes(self.server.caller().call(redis::cmd("GET").arg(name)).await.ok()?)?;
        FoundObject::read(None, &stored).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_release_has_registered_is_all_there_is() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let mut releases = Registered::from([(1, names(&["id", "host"])), (2, names(&["key", "id"]))]);
        for (name, standing) in [
            ("host", Some(Standing::Secondary)),
            ("key", Some(Standing::Primary)),
            ("id", Some(Standing::Both)),
            ("idd", Some(Standing::Absent)),
        ] {
            assert_eq!(registered(&releases, name), standing, "{name}");
        }
        releases.insert(3, None);
        assert_eq!(registered(&releases, "host"), Some(Standing::Secondary));
        assert_eq!(registered(&releases, "idd"), None, "one release has not told");
        assert_eq!(registered(&Registered::new(), "id"), None);
    }
}
