//! The names of a release's indexes, kept on the server for people who look into a cache without its entry type.
//!
//! Each service writes them when it registers its release in the clock. The same script does both (`clock.lua`), so this costs no round
//! trip. The fingerprint of the schema, which covers the names, identifies a release. So each release has a key of its own, and releases
//! side by side never change each other's key.
//!
//! Only a release that begins the list of releases anew removes them, together with that list. A truncate, and a recovery that clears,
//! leave them, because the releases stay. A server that evicts may remove them: then the names are unknown until a service of that release
//! connects again.
//!
//! Only [`inspect`](super::inspect) reads them. No operation of a service depends on them.

/// No index name contains a colon.
const BETWEEN: char = ':';

/// The names as they stand on the server, the primary index first.
pub(crate) fn written(names: &[&str]) -> String {
    names.join(&BETWEEN.to_string())
}

/// The names, the primary index first. `None`: the bytes are no names.
pub(crate) fn read(kept: &[u8]) -> Option<Vec<String>> {
    let names = std::str::from_utf8(kept).ok()?.split(BETWEEN);
    names.map(|name| (!name.is_empty()).then(|| name.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_were_written() {
        for names in [&["id"][..], &["tenant-id", "slug", "größe"]] {
            assert_eq!(read(written(names).as_bytes()).unwrap(), names);
        }
        for kept in [&b""[..], b":", b"id:", b"\xff"] {
            assert_eq!(read(kept), None);
        }
    }
}
