//! What an object can be looked up by, and the bytes a key becomes.
//!
//! The encoding is part of the stored layout and never changes: text is its UTF-8 bytes, bytes are themselves, a number is
//! its decimal text (so `42u32`, `42u64` and `"42"` are the same key), a UUID its lower-case hyphenated text, and a
//! tuple a row of netstrings (`("acme", 7)` is `4:acme,1:7,`), which no choice of parts can make ambiguous.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

/// The longest key, in encoded bytes, that can be cached: 64 KiB.
pub const MAX_KEY_LEN: usize = 64 * 1024;

/// Something an object can be looked up by: text, bytes, numbers, and tuples of them.
///
/// ```
/// use larder::Key;
///
/// assert_eq!(&*"acme.example".encode(), b"acme.example");
/// assert_eq!(&*42_u64.encode(), b"42");
/// assert_eq!(&*("acme", 7).encode(), b"4:acme,1:7,");
/// assert_ne!(&*("a", "b,1:c").encode(), &*("a,1:b", "c").encode());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a key",
    label = "cannot be looked up by",
    note = "a key is text, bytes, a number, a UUID (feature `uuid`), a tuple of those, or a type that implements `larder::Key`"
)]
pub trait Key {
    /// The same key without borrows, as a loader receives it.
    type Owned: Send + 'static;

    /// The bytes that stand for this key in its index.
    fn encode(&self) -> KeyBytes<'_>;

    /// Copies the key out of whatever it borrows from.
    fn to_owned_key(&self) -> Self::Owned;
}

/// An encoded key: borrowed where the key already is bytes, inline where it is short, so that a lookup allocates nothing.
#[derive(Clone, Debug)]
pub enum KeyBytes<'a> {
    /// The key's own bytes.
    Borrowed(&'a [u8]),
    /// Up to 40 bytes in place (every number and UUID fits), and their count.
    Inline([u8; 40], u8),
    /// Bytes that had to be put together.
    Owned(Vec<u8>),
}

impl KeyBytes<'_> {
    fn inline(text: &dyn std::fmt::Display) -> Self {
        use std::io::Write;
        let mut bytes = [0; 40];
        let mut rest = &mut bytes[..];
        match write!(rest, "{text}") {
            Ok(()) => {
                let len = 40 - rest.len();
                Self::Inline(bytes, len as u8)
            }
            Err(_) => Self::Owned(text.to_string().into_bytes()),
        }
    }
}

impl Deref for KeyBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Inline(bytes, len) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Key for str {
    type Owned = String;

    fn encode(&self) -> KeyBytes<'_> {
        KeyBytes::Borrowed(self.as_bytes())
    }

    fn to_owned_key(&self) -> String {
        self.to_owned()
    }
}

impl Key for [u8] {
    type Owned = Vec<u8>;

    fn encode(&self) -> KeyBytes<'_> {
        KeyBytes::Borrowed(self)
    }

    fn to_owned_key(&self) -> Vec<u8> {
        self.to_owned()
    }
}

impl<const N: usize> Key for [u8; N] {
    type Owned = [u8; N];

    fn encode(&self) -> KeyBytes<'_> {
        KeyBytes::Borrowed(self)
    }

    fn to_owned_key(&self) -> [u8; N] {
        *self
    }
}

macro_rules! key_behind_pointer {
    ($([$($generics:tt)*] $type:ty => $target:ty;)*) => {$(
        impl<$($generics)*> Key for $type {
            type Owned = <$target as Key>::Owned;

            fn encode(&self) -> KeyBytes<'_> {
                <$target as Key>::encode(self)
            }

            fn to_owned_key(&self) -> <$target as Key>::Owned {
                <$target as Key>::to_owned_key(self)
            }
        }
    )*};
}

key_behind_pointer! {
    [T: Key + ?Sized] &T => T;
    [T: Key + ?Sized] Box<T> => T;
    [T: Key + ?Sized] Arc<T> => T;
    [T: Key + ToOwned + ?Sized] Cow<'_, T> => T;
    [] String => str;
    [] Vec<u8> => [u8];
}

macro_rules! key_as_text {
    ($($type:ty)*) => {$(
        impl Key for $type {
            type Owned = $type;

            fn encode(&self) -> KeyBytes<'_> {
                KeyBytes::inline(self)
            }

            fn to_owned_key(&self) -> $type {
                *self
            }
        }
    )*};
}

key_as_text! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize bool char }
key_as_text! { std::net::IpAddr std::net::Ipv4Addr std::net::Ipv6Addr }
key_as_text! { std::num::NonZeroU32 std::num::NonZeroU64 std::num::NonZeroI32 std::num::NonZeroI64 }

#[cfg(feature = "uuid")]
key_as_text! { uuid::Uuid }

macro_rules! key_tuple {
    ($($name:ident $position:tt),+) => {
        impl<$($name: Key),+> Key for ($($name,)+) {
            type Owned = ($($name::Owned,)+);

            fn encode(&self) -> KeyBytes<'_> {
                let mut bytes = Vec::new();
                $( netstring(&self.$position.encode(), &mut bytes); )+
                KeyBytes::Owned(bytes)
            }

            fn to_owned_key(&self) -> Self::Owned {
                ($(self.$position.to_owned_key(),)+)
            }
        }
    };
}

key_tuple!(A 0);
key_tuple!(A 0, B 1);
key_tuple!(A 0, B 1, C 2);
key_tuple!(A 0, B 1, C 2, D 3);

fn netstring(part: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(part.len().to_string().as_bytes());
    bytes.push(b':');
    bytes.extend_from_slice(part);
    bytes.push(b',');
}

/// Why bytes cannot be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A key has no bytes.
    #[error("the key is empty; an object without that key should leave it out")]
    Empty,
    /// A key is longer than [`MAX_KEY_LEN`].
    #[error("the key has {0} bytes; at most {MAX_KEY_LEN} can be looked up")]
    TooLong(usize),
}

/// Whether these bytes can be a key.
pub(crate) fn check(bytes: &[u8]) -> Result<(), KeyError> {
    match bytes.len() {
        0 => Err(KeyError::Empty),
        len if len > MAX_KEY_LEN => Err(KeyError::TooLong(len)),
        _ => Ok(()),
    }
}
