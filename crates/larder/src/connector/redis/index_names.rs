//! The names of a release's indexes, kept on the server for people who look into a cache and have no entry type at hand.
//!
//! Who writes them: each service, when it registers its release in the clock (`clock.lua`, in the same script, so that it costs no round
//! trip). A release is known by the fingerprint of its schema, in which the names have a part: so each release has a key of its own,
//! nobody ever changes what another has written, and releases side by side do not meet.
//!
//! Who removes them: nobody but the release that begins the list of releases anew, at the same time as that list. A truncate, and a
//! recovery that clears, leave them, since the releases stay. A server that evicts may remove them: then they are not known until a
//! service of that release connects again.
//!
//! Who reads them: [`inspect`](super::inspect) only. No operation of a service depends on them.

/// Names hold no colon, as everywhere in the names of keys.
const BETWEEN: char = ':';

/// The names as they are kept, the primary index first.
pub(crate) fn written(names: &[&str]) -> String {
    names.join(&BETWEEN.to_string())
}

/// The names, the primary index first; `None` where the bytes are no names.
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
