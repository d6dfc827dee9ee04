//! What kind of index an operator means by a name. The names that the cache's releases have registered decide; if they do not, the keys
//! and the objects of the cache do.

use crate::connector::redis::index_names;
use crate::connector::redis::inspect::primary_field::primary_is_field;
use crate::connector::redis::inspect::{FoundObject, InspectError, InspectedCache, InspectedIndex, split, text};
use crate::connector::redis::single::clearing;
use crate::connector::redis::wire::replies::bytes;
use redis::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How many objects are looked at to find out whether a name is that of the primary index. All of them must agree.
const SAMPLE: u32 = 8;

/// The positions that stand for the primary index and for a secondary index, when only the name of the index is known.
pub(super) const PRIMARY: u8 = 0;
pub(super) const SECONDARY: u8 = 1;

/// What kind of index a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Primary,
    Secondary,
    /// The primary index of some releases, and a secondary index of others.
    Both,
    /// Nothing shows the index, and not every release has registered its indexes. It may be primary or secondary, or may not exist.
    Unproven,
    /// Every release has registered its indexes, and none has this name.
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

/// The names of the indexes of each release, the primary index first. `None`: the server does not have them.
pub(super) type Registered = BTreeMap<u64, Option<Vec<String>>>;

/// Decides by the registered names alone. `None`: they do not decide.
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

impl InspectedCache {
    /// The names of the indexes of each release that the clock lists, by the release's fingerprint. The primary index comes first.
    /// `None`: the server does not have the names.
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
        let mut names = match self.server.tolerated(&get).await? {
            Some(Value::Array(kept)) => kept,
            _ => Vec::new(),
        }
        .into_iter()
        .map(|kept| bytes(kept).and_then(|kept| index_names::read(&kept)));
        Ok(releases.iter().map(|release| (*release, names.next().flatten())).collect())
    }

    /// The index with this name. The caller should ask whether the server [shows](InspectedIndex::is_proven) that the index exists: with
    /// a wrong name nothing is found, and an invalidation forgets nothing and refuses no load that is under way.
    ///
    /// # Errors
    ///
    /// [`InspectError::ForeignClock`], [`InspectError::DamagedClock`], [`InspectError::Server`].
    pub async fn index(&self, name: &str) -> Result<InspectedIndex, InspectError> {
        let releases = self.index_names().await?;
        let mut seen: BTreeSet<String> = releases.values().flatten().flatten().cloned().collect();
        let standing = match registered(&releases, name) {
            Some(standing) => standing,
            None => self.shown(name, &mut seen).await?,
        };
        Ok(InspectedIndex::new(self, name, standing, seen.into_iter().collect(), releases))
    }

    /// Decides by the keys and objects of the cache. Adds the names of all indexes that they show to `seen`.
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
                    agreed += u32::from(primary_is_field(&object, name));
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

    /// The object that is stored under this key of the server, if it can be read.
    async fn object(&self, name: &[u8]) -> Option<FoundObject> {
        let stored = bytes(self.server.call(redis::cmd("GET").arg(name)).await.ok()?)?;
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
