//! Fuzzing targets for what larder reads that others may have written. Each target takes any bytes, and panics if larder breaks a promise.
//!
//! Not for use. `fuzz/` passes these targets to libFuzzer. The tests call each target with a fixed number of mutations of the same seeds,
//! without guidance by coverage, or for `LARDER_FUZZ_SECONDS` seconds.

#[cfg(all(feature = "toml", feature = "yaml"))]
use crate::Config;
use crate::Key;

#[cfg(feature = "redis")]
mod object;
#[cfg(test)]
mod tests;

#[cfg(feature = "redis")]
pub use object::object;

/// Takes numbers and pieces off the front of bytes. What is missing is zero, or empty.
struct Cut<'a>(&'a [u8]);

impl<'a> Cut<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A piece of the length that its first byte says, or shorter if there are fewer bytes.
    fn piece(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (piece, rest) = self.0.split_at(length);
        self.0 = rest;
        piece
    }
}

/// Keys: two tuples have the same bytes only if they are equal, and their parts can be read back.
pub fn keys(bytes: &[u8]) {
    let mut cut = Cut(bytes);
    let mut tuple = || (0..=cut.byte() % 4).map(|_| cut.piece()).collect::<Vec<_>>();
    let (one, other) = (tuple(), tuple());
    let encoded = |parts: &[&[u8]]| match parts {
        [a] => (a,).encode().to_vec(),
        [a, b] => (a, b).encode().to_vec(),
        [a, b, c] => (a, b, c).encode().to_vec(),
        [a, b, c, d] => (a, b, c, d).encode().to_vec(),
        _ => Vec::new(),
    };
    assert_eq!(encoded(&one) == encoded(&other), one == other, "{one:?} and {other:?}");
    assert_eq!(netstrings(&encoded(&one)), Some(one.clone()), "what {one:?} was made of is lost");
    // A tuple in a tuple is one part, and does not make the outer tuple longer.
    let (inner, outer) = (encoded(&one), encoded(&other));
    let nested = (inner.as_slice(), outer.as_slice()).encode().to_vec();
    assert_eq!(netstrings(&nested), Some(vec![inner.as_slice(), outer.as_slice()]));
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert_eq!(&*text.encode(), bytes);
        assert_eq!(*text.to_owned_key().encode(), *bytes);
        if let Ok(number) = text.parse::<u128>()
            && number.to_string() == text
        {
            assert_eq!(*number.encode(), *bytes, "a number is the key that its digits are");
        }
    }
    assert_eq!(&*bytes.encode(), bytes);
}

/// Reads netstrings to the end. `None` if there is anything else.
fn netstrings(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let colon = bytes.iter().position(|byte| *byte == b':')?;
        let length: usize = std::str::from_utf8(bytes.get(..colon)?).ok()?.parse().ok()?;
        let (part, rest) = bytes.get(colon + 1..)?.split_at_checked(length)?;
        parts.push(part);
        bytes = rest.strip_prefix(b",")?;
    }
    Some(parts)
}

#[cfg(all(feature = "toml", feature = "yaml"))]
/// A configuration: YAML, TOML, or environment variables (`NAME=value` on a line each, without the `LARDER_`). A configuration that can be
/// read can be shown and read again. For one that cannot, the error says where.
pub fn configuration(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let variables =
        || text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (format!("LARDER_{name}"), value));
    for read in [Config::from_yaml(&text), Config::from_toml(&text), Config::from_variables(variables())] {
        match read {
            Ok(config) => {
                let shown = config.effective().to_string();
                let again = Config::from_yaml(&shown).map(|config| config.effective().to_string());
                assert_eq!(again.as_deref(), Ok(shown.as_str()), "what is shown is not what is read");
            }
            Err(error) => {
                assert!(!error.problems().is_empty());
                for problem in error.problems() {
                    let text = problem.to_string();
                    let whole = text.contains("cannot be read as ") || text.contains("the configuration ");
                    let located = !problem.path().is_empty() || problem.variable().is_some() || whole;
                    assert!(located, "says nowhere what is wrong: {text}");
                }
            }
        }
    }
}
