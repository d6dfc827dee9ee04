//! A key together with its index: [`KeyRef`] and [`KeyBuf`].

/// A key of a known index, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyRef<'a> {
    /// The position of the index in [`Entry::INDEXES`](crate::Entry::INDEXES); 0 is the primary index.
    pub index: u8,
    /// The encoded key.
    pub bytes: &'a [u8],
}

/// A key of a known index.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyBuf {
    /// The position of the index in [`Entry::INDEXES`](crate::Entry::INDEXES); 0 is the primary index.
    pub index: u8,
    /// The encoded key.
    pub bytes: Box<[u8]>,
}

impl KeyBuf {
    /// The same key, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef { index: self.index, bytes: &self.bytes }
    }
}

impl KeyRef<'_> {
    /// The same key, owned.
    #[must_use]
    pub fn to_buf(self) -> KeyBuf {
        KeyBuf { index: self.index, bytes: self.bytes.into() }
    }
}
