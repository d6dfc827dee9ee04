//! A password that is never shown.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What is shown in place of a secret.
pub(crate) const HIDDEN: &str = "***";

/// Longer password files are taken for a mistake; in bytes.
const LONGEST: u64 = 64 * 1024;

/// A password. Its `Debug` and `Display` show `***`.
///
/// ```
/// use larder::connector::Secret;
///
/// let password = Secret::new("barley");
/// assert_eq!(format!("{password} {password:?}"), "*** ***");
/// assert_eq!(password.expose(), "barley");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    /// Where it was read from, so that the effective configuration can name that instead.
    file: Option<PathBuf>,
}

impl Secret {
    /// A secret with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), file: None }
    }

    /// Reads a password file. A line break at its end is not part of the password.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is empty, is longer than 64 KiB, or is not UTF-8 text.
    pub fn from_file(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        Self::read(path).map_err(|reason| io::Error::other(format!("the password file {} {reason}", path.display())))
    }

    /// The text itself, for whoever must send it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The file that the secret was read from, if it was.
    #[cfg(any(feature = "yaml", feature = "toml", feature = "postgres", feature = "redis"))]
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The secret as its file has it now; the same secret if it came from no file.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) fn read_again(&self) -> io::Result<Self> {
        self.file().map_or_else(|| Ok(self.clone()), Self::from_file)
    }

    /// Like [`from_file`](Self::from_file); the error goes on after the name of the file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
            .map_err(|error| format!("cannot be read: {error}"))?;
        if bytes.len() as u64 > LONGEST {
            return Err("is longer than 64 KiB, and no password".to_owned());
        }
        let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err("is empty".to_owned()),
            password => Ok(Self { text: password.to_owned(), file: Some(path.to_owned()) }),
        }
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}
