//! Keys: what an object can be looked up by, and the bytes that a key becomes.
//!
//! The encoding is part of the stored layout and never changes:
//!
//! - Text is its UTF-8 bytes, and bytes are themselves.
//! - A number is its decimal text, so `42u32`, `42u64` and `"42"` have the same bytes.
//! - A UUID is its lower-case hyphenated text.
//! - A tuple is a row of netstrings: `("acme", 7)` is `4:acme,1:7,`. No choice of parts makes this ambiguous.
//!
//! The bytes are for the server. In code an [`Index`](crate::Index) takes keys of one type only: see [`KeyFor`].

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroIsize, NonZeroU8, NonZeroU16, NonZeroU32,
    NonZeroU64, NonZeroU128, NonZeroUsize,
};
use std::ops::Deref;
use std::sync::Arc;

mod located;

pub use located::{KeyBuf, KeyRef};

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
///
/// A type of your own is a key when it implements both `Key` and [`KeyFor`]:
///
/// ```
/// use larder::{Key, KeyBytes, KeyFor};
///
/// struct HostName(String);
///
/// impl Key for HostName {
///     type Owned = String;
///
///     fn encode(&self) -> KeyBytes<'_> {
///         self.0.encode()
///     }
///
///     fn to_owned_key(&self) -> String {
///         self.0.clone()
///     }
/// }
///
/// // An index of `String` takes a `HostName` as well.
/// impl KeyFor<String> for HostName {}
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a key",
    label = "cannot be looked up by",
    note = "a key is text, bytes, a number, a UUID (feature `uuid`), a tuple of those, or a type that implements `larder::Key`",
    note = "if a field holds keys and the derive cannot see that, write `#[key(index = \"…\", each)]` where each item is a key, or compute \
            them: `#[entry(key(index = \"…\", with = Self::function, type = …))]`"
)]
pub trait Key {
    /// The same key without borrows, as a loader receives it. The owned form of `&str`, `Box<str>`, `Arc<str>` and `Cow<str>` is `String`;
    /// that of a tuple is the tuple of the owned parts. The type parameter of an [`Index`](crate::Index) is the owned form of its keys.
    type Owned: Send + 'static;

    /// The bytes that stand for this key in its index.
    fn encode(&self) -> KeyBytes<'_>;

    /// Copies the key, so that it borrows from nothing.
    fn to_owned_key(&self) -> Self::Owned;
}

/// A key that an index of `T` takes, owned or borrowed: `T` is the key's owned form.
///
/// ```
/// # use larder::KeyFor;
/// fn takes_text(_: impl KeyFor<String>) {}
/// takes_text("acme.example");
/// takes_text(String::from("acme.example"));
///
/// fn takes_a_login(_: impl KeyFor<(String, u64)>) {}
/// takes_a_login(("acme", 7));
/// takes_a_login(&("acme".to_string(), 7_u64));
/// ```
///
/// Code that works for any index is generic in the type of the index's keys and in the key:
///
/// ```
/// # use larder::{Cache, Entry, Index, KeyFor};
/// async fn is_cached<E: Entry, T, K: KeyFor<T>>(cache: &Cache<E>, index: Index<E, T>, key: K) -> bool {
///     cache.get(index, key).await.is_some()
/// }
/// ```
///
/// A number is a key only for an index of exactly its own type: an index of `u64` takes no `u32` and no `"42"`, although their bytes would
/// be the same. Otherwise a key of the wrong index would compile, and always miss.
#[diagnostic::on_unimplemented(
    message = "this index takes `{T}` here, not `{Self}`",
    label = "not a key of this index",
    note = "an index takes its own type of key, owned or borrowed: `String` or `&str`, `Vec<u8>` or `&bytes[..]`; and for a key of several parts a tuple of all parts",
    note = "a type of your own is such a key when it implements `larder::Key<Owned = {T}>` and `larder::KeyFor<{T}>`"
)]
pub trait KeyFor<T>: Key<Owned = T> {}

/// An encoded key. It borrows from a key that already is bytes, and holds a number, an address or a UUID in place. A lookup by one of these
/// allocates nothing.
#[derive(Clone, Debug)]
pub enum KeyBytes<'a> {
    /// The key's own bytes.
    Borrowed(&'a [u8]),
    /// Up to 40 bytes in place (every number and UUID fits), and their count.
    Inline([u8; 40], u8),
    /// Bytes that had to be allocated.
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

impl KeyFor<String> for str {}

impl Key for [u8] {
    type Owned = Vec<u8>;

    fn encode(&self) -> KeyBytes<'_> {
        KeyBytes::Borrowed(self)
    }

    fn to_owned_key(&self) -> Vec<u8> {
        self.to_owned()
    }
}

impl KeyFor<Vec<u8>> for [u8] {}

impl<const N: usize> Key for [u8; N] {
    type Owned = [u8; N];

    fn encode(&self) -> KeyBytes<'_> {
        KeyBytes::Borrowed(self)
    }

    fn to_owned_key(&self) -> [u8; N] {
        *self
    }
}

impl<const N: usize> KeyFor<[u8; N]> for [u8; N] {}

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

impl<O, T: KeyFor<O> + ?Sized> KeyFor<O> for &T {}
impl<O, T: KeyFor<O> + ?Sized> KeyFor<O> for Box<T> {}
impl<O, T: KeyFor<O> + ?Sized> KeyFor<O> for Arc<T> {}
impl<O, T: KeyFor<O> + ToOwned + ?Sized> KeyFor<O> for Cow<'_, T> {}
impl KeyFor<String> for String {}
impl KeyFor<Vec<u8>> for Vec<u8> {}

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

        impl KeyFor<$type> for $type {}
    )*};
}

key_as_text! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize bool char }
key_as_text! { IpAddr Ipv4Addr Ipv6Addr }
key_as_text! { NonZeroU8 NonZeroU16 NonZeroU32 NonZeroU64 NonZeroU128 NonZeroUsize }
key_as_text! { NonZeroI8 NonZeroI16 NonZeroI32 NonZeroI64 NonZeroI128 NonZeroIsize }

#[cfg(feature = "uuid")]
key_as_text! { uuid::Uuid }

macro_rules! key_tuple {
    ($($name:ident $owned:ident $position:tt),+) => {
        impl<$($owned, $name: KeyFor<$owned>),+> KeyFor<($($owned,)+)> for ($($name,)+) {}

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

key_tuple!(A P 0);
key_tuple!(A P 0, B Q 1);
key_tuple!(A P 0, B Q 1, C R 2);
key_tuple!(A P 0, B Q 1, C R 2, D S 3);

fn netstring(part: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(part.len().to_string().as_bytes());
    bytes.push(b':');
    bytes.extend_from_slice(part);
    bytes.push(b',');
}

/// Why bytes cannot be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(key: impl Key) -> String {
        String::from_utf8(key.encode().to_vec()).unwrap()
    }

    #[test]
    fn text_is_itself() {
        assert_eq!(encoded("größe"), "größe");
        assert_eq!(encoded(String::from("a\0:,")), "a\0:,");
        assert_eq!(encoded(Box::<str>::from("a")), "a");
        assert_eq!(encoded(Arc::<str>::from("a")), "a");
        assert_eq!(encoded(Cow::Borrowed("a")), "a");
        assert_eq!(encoded(Box::new(&"a")), "a");
        assert_eq!(encoded('ß'), "ß");
        assert_eq!(encoded(""), "");
    }

    #[test]
    fn bytes_are_themselves() {
        let bytes = [0, b',', 0xff];
        assert_eq!(*bytes.encode(), bytes);
        assert_eq!(*bytes[..].encode(), bytes);
        assert_eq!(*bytes.to_vec().encode(), bytes);
        assert_eq!(*Arc::<[u8]>::from(bytes).encode(), bytes);
        assert_eq!(*Cow::<[u8]>::Owned(bytes.to_vec()).encode(), bytes);
    }

    #[test]
    fn text_and_bytes_are_borrowed() {
        assert!(matches!("a".encode(), KeyBytes::Borrowed(_)));
        assert!(matches!(Box::<str>::from("a").encode(), KeyBytes::Borrowed(_)));
        assert!(matches!(vec![1_u8].encode(), KeyBytes::Borrowed(_)));
    }

    #[test]
    fn numbers_are_decimal_text_whatever_their_type() {
        assert_eq!(encoded(42_u8), "42");
        assert_eq!(encoded(42_i64), "42");
        assert_eq!(encoded(42_usize), "42");
        assert_eq!(encoded(NonZeroU128::MIN), "1");
        assert_eq!(encoded(NonZeroI8::MIN), "-128");
        assert_eq!(encoded(0), "0");
        assert_eq!(encoded(-7_isize), "-7");
        assert_eq!(encoded(u128::MAX), "340282366920938463463374607431768211455");
        assert_eq!(encoded(i128::MIN), "-170141183460469231731687303715884105728");
        assert_eq!(encoded(true), "true");
    }

    #[test]
    fn addresses_are_text() {
        let mapped: Ipv6Addr = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        assert_eq!(encoded(Ipv4Addr::LOCALHOST), "127.0.0.1");
        assert_eq!(encoded(IpAddr::from(Ipv6Addr::LOCALHOST)), "::1");
        assert_eq!(encoded(mapped), "::ffff:127.0.0.1");
        assert_eq!(encoded(Ipv6Addr::from([0xffff; 8])), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    }

    #[cfg(feature = "uuid")]
    #[test]
    fn a_uuid_is_hyphenated_text() {
        let id = uuid::Uuid::from_u128(0xa1a2_a3a4_b1b2_c1c2_d1d2_d3d4_d5d6_d7d8);
        assert_eq!(encoded(id), "a1a2a3a4-b1b2-c1c2-d1d2-d3d4d5d6d7d8");
        assert!(matches!(id.encode(), KeyBytes::Inline(..)));
    }

    #[test]
    fn the_longest_texts_of_numbers_fit_inline() {
        assert!(matches!(i128::MIN.encode(), KeyBytes::Inline(_, 40)));
        assert!(matches!(Ipv6Addr::from([0xffff; 8]).encode(), KeyBytes::Inline(_, 39)));
        let long = KeyBytes::inline(&"x".repeat(41));
        assert!(matches!(&long, KeyBytes::Owned(text) if text.len() == 41));
    }

    #[test]
    fn tuples_are_netstrings() {
        assert_eq!(encoded(("a",)), "1:a,");
        assert_eq!(encoded(("acme", 7)), "4:acme,1:7,");
        assert_eq!(encoded(("", 'x', true)), "0:,1:x,4:true,");
        assert_eq!(encoded((1, 2, 3, 4)), "1:1,1:2,1:3,1:4,");
        assert_eq!(encoded((("a", "b"), "c")), "8:1:a,1:b,,1:c,");
        assert_eq!(*(vec![0, 0xff], 1).encode(), *b"2:\0\xff,1:1,");
    }

    #[test]
    fn an_owned_key_is_the_same_key() {
        let borrowed = ("acme", &7_u64, &[1_u8, 2][..], Cow::Borrowed("x"));
        let owned: (String, u64, Vec<u8>, String) = borrowed.to_owned_key();
        assert_eq!(*owned.encode(), *borrowed.encode());
    }

    #[test]
    fn keys_have_bytes_but_not_too_many() {
        assert_eq!(check(b""), Err(KeyError::Empty));
        assert_eq!(check(b"a"), Ok(()));
        assert_eq!(check(&vec![0; MAX_KEY_LEN]), Ok(()));
        assert_eq!(check(&vec![0; MAX_KEY_LEN + 1]), Err(KeyError::TooLong(65_537)));
    }

    /// Parts that contain the characters of netstrings.
    fn part() -> impl Strategy<Value = Vec<u8>> {
        let signs = proptest::sample::select(b"0123:,a\0\xff".as_slice());
        prop_oneof![4 => proptest::collection::vec(signs, 0..12), 1 => proptest::collection::vec(any::<u8>(), 0..300)]
    }

    fn tuple(parts: &[Vec<u8>]) -> Vec<u8> {
        match parts {
            [a] => (a,).encode().to_vec(),
            [a, b] => (a, b).encode().to_vec(),
            [a, b, c] => (a, b, c).encode().to_vec(),
            [a, b, c, d] => (a, b, c, d).encode().to_vec(),
            _ => panic!("{} parts", parts.len()),
        }
    }

    /// Reads netstrings to the end. Panics if there is anything else.
    fn parts_of(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        while !bytes.is_empty() {
            let colon = bytes.iter().position(|byte| *byte == b':').unwrap();
            let length: usize = std::str::from_utf8(&bytes[..colon]).unwrap().parse().unwrap();
            let (part, rest) = bytes[colon + 1..].split_at(length);
            parts.push(part.to_vec());
            bytes = rest.strip_prefix(b",").unwrap();
        }
        parts
    }

    proptest! {
        #[test]
        fn what_a_tuple_was_made_of_can_be_told_from_its_bytes(parts in proptest::collection::vec(part(), 1..=4)) {
            prop_assert_eq!(parts_of(&tuple(&parts)), parts);
        }

        #[test]
        fn different_tuples_have_different_bytes(
            one in proptest::collection::vec(part(), 1..=4),
            other in proptest::collection::vec(part(), 1..=4),
        ) {
            prop_assert_eq!(tuple(&one) == tuple(&other), one == other);
        }
    }
}
