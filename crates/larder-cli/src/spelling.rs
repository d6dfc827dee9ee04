//! Keys on the command line: text, bytes, or the parts of a composite key.

use crate::failure::Failure;
use clap::Args;
use larder::Key;

/// The arguments that say how keys are written.
#[derive(Args, Clone, Debug)]
pub(crate) struct Spelling {
    /// Keys, or parts, are bytes in hexadecimal digits, not text
    #[arg(long)]
    hex: bool,
    /// One part of a composite key (a tuple); give it once for each part, in their order, instead of KEY
    #[arg(long = "part", value_name = "PART")]
    parts: Vec<String>,
}

impl Spelling {
    /// The bytes of the keys.
    pub(crate) fn keys(&self, given: &[String]) -> Result<Vec<Vec<u8>>, Failure> {
        let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
        match (given, &self.parts[..]) {
            ([], []) => usage("no key was given: give KEY, or --part for each part of a composite key"),
            (given, []) => given.iter().map(|key| self.bytes(key)).collect(),
            ([], parts) => {
                let parts: Vec<Vec<u8>> = parts.iter().map(|part| self.bytes(part)).collect::<Result<_, _>>()?;
                match &parts[..] {
                    [a] => Ok(vec![(a,).encode().to_vec()]),
                    [a, b] => Ok(vec![(a, b).encode().to_vec()]),
                    [a, b, c] => Ok(vec![(a, b, c).encode().to_vec()]),
                    [a, b, c, d] => Ok(vec![(a, b, c, d).encode().to_vec()]),
                    _ => usage("a composite key has at most four parts"),
                }
            }
            _ => usage("give either KEY or --part: the parts make one key"),
        }
    }

    /// The bytes of the key, for a command that takes a single key.
    pub(crate) fn key(&self, given: &[String]) -> Result<Vec<u8>, Failure> {
        match self.keys(given)?.as_slice() {
            [key] => Ok(key.clone()),
            keys => {
                let parts: Vec<String> = given.iter().map(|part| format!("--part {}", quoted(part))).collect();
                Err(Failure::Usage(format!(
                    "this command takes one key, and {} were given; if they are the parts of one key, say {}",
                    keys.len(),
                    parts.join(" ")
                )))
            }
        }
    }

    fn bytes(&self, text: &str) -> Result<Vec<u8>, Failure> {
        if !self.hex {
            return Ok(text.as_bytes().to_vec());
        }
        let digits: Option<Vec<u8>> =
            text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
        match digits {
            Some(digits) if digits.len() % 2 == 0 => {
                Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
            }
            _ => Err(Failure::Usage(format!("`{text}` is not a row of pairs of hexadecimal digits"))),
        }
    }
}

/// The word as it must be written in a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_.,:/@%+=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The parts of a key, if it is a row of netstrings, as the key of a tuple is. A key of one text may look the same by chance.
pub(crate) fn parts(mut key: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !key.is_empty() {
        let colon = key.iter().position(|byte| *byte == b':')?;
        let digits = std::str::from_utf8(key.get(..colon)?).ok()?;
        let length: usize = digits.parse().ok().filter(|length: &usize| length.to_string() == digits)?;
        let (part, rest) = key.get(colon + 1..)?.split_at_checked(length)?;
        key = rest.strip_prefix(b",")?;
        parts.push(part);
    }
    (1..=4).contains(&parts.len()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(hex: bool, parts: &[&str], given: &[&str]) -> Option<Vec<Vec<u8>>> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Spelling { hex, parts: owned(parts) }.keys(&owned(given)).ok()
    }

    #[test]
    fn text_bytes_and_parts() {
        assert_eq!(keys(false, &[], &["acme,jo", "ff"]), Some(vec![b"acme,jo".to_vec(), b"ff".to_vec()]));
        assert_eq!(keys(true, &[], &["00Ff", ""]), Some(vec![vec![0, 255], vec![]]));
        assert_eq!(keys(false, &["acme", "7"], &[]), Some(vec![b"4:acme,1:7,".to_vec()]));
        assert_eq!(keys(true, &["ff"], &[]), Some(vec![b"1:\xff,".to_vec()]));
    }

    #[test]
    fn a_second_key_may_be_meant_as_a_part() {
        let spelling = Spelling { hex: false, parts: Vec::new() };
        let refused = spelling.key(&["acme".to_owned(), "jo's key".to_owned()]).unwrap_err().to_string();
        assert!(refused.ends_with(r"say --part acme --part 'jo'\''s key'"), "{refused}");
        assert_eq!(spelling.key(&["acme".to_owned()]).unwrap(), b"acme");
    }

    #[test]
    fn the_parts_of_a_key_are_found_again() {
        assert_eq!(parts(&("acme", 7).encode()).unwrap(), [&b"acme"[..], b"7"]);
        assert_eq!(
            parts(&("", "4:acme,", "ü", b"\xff").encode()).unwrap(),
            [&b""[..], b"4:acme,", "ü".as_bytes(), b"\xff"]
        );
        for text in [
            "",
            "acme",
            "4:acme",
            "5:acme,",
            "4:acme,x",
            "04:acme,",
            "+4:acme,",
            "99999999999999999999:a,",
            "1:a,1:a,1:a,1:a,1:a,",
        ] {
            assert_eq!(parts(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant() {
        assert_eq!(keys(false, &[], &[]), None);
        assert_eq!(keys(false, &["a"], &["b"]), None);
        assert_eq!(keys(false, &["a", "b", "c", "d", "e"], &[]), None);
        for text in ["f", "0g", "0x00", "größe"] {
            assert_eq!(keys(true, &[], &[text]), None, "{text}");
        }
    }
}
