//! Writes MessagePack with named fields, and refuses a `Some` that would be read back as `None`.
//!
//! MessagePack has no `Some`: the value in an option is written as it is, and `None` is written as nil. If the value in the option is
//! itself written as nil, as in `Some(None)`, `Some(())` or `Some(serde_json::Value::Null)`, a reader cannot tell it from `None`.
//! [`Faithful`] wraps the serializer of `rmp_serde`. Each of its methods returns whether nil was written, and `serialize_some` refuses nil.

use super::EncodeError;
use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use std::cell::RefCell;

/// The bytes of a value. `room` is a guess of how many there will be, and is allocated at once.
pub(super) fn write<T: Serialize>(value: &T, room: usize) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::with_capacity(room);
    let refused = Refused::default();
    let mut inner = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
    match value.serialize(Faithful { inner: &mut inner, refused: &refused }) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(match refused.0.into_inner() {
            Some(mut names) => {
                names.reverse();
                EncodeError::SomeOfNothing(names.join("."))
            }
            None => EncodeError::Unwritable(error.to_string()),
        }),
    }
}

/// The place of a `Some` that was refused: the names of the fields around it, the innermost first.
#[derive(Default)]
struct Refused(RefCell<Option<Vec<&'static str>>>);

impl Refused {
    /// Adds the name of a field that the error passes on its way up.
    fn leaves<E>(&self, name: &'static str) -> impl FnOnce(E) -> E + '_ {
        move |error| {
            if let Some(names) = self.0.borrow_mut().as_mut() {
                names.push(name);
            }
            error
        }
    }
}

/// Wraps a serializer, or what a serializer makes for a list, a map or a struct.
struct Faithful<'a, S> {
    inner: S,
    refused: &'a Refused,
}

/// The result of writing a value, and whether the value was written as nil.
struct Written<T> {
    nil: bool,
    ok: T,
}

fn nil<T>(ok: T) -> Written<T> {
    Written { nil: true, ok }
}

fn something<T>(ok: T) -> Written<T> {
    Written { nil: false, ok }
}

/// A value within another value. It is written through [`Faithful`] as well.
struct Within<'a, T: ?Sized> {
    value: &'a T,
    refused: &'a Refused,
}

impl<T: Serialize + ?Sized> Serialize for Within<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Faithful { inner, refused: self.refused }).map(|written| written.ok)
    }
}

macro_rules! leaves {
    ($($method:ident($type:ty))*) => {$(
        fn $method(self, value: $type) -> Result<Self::Ok, S::Error> {
            self.inner.$method(value).map(something)
        }
    )*};
}

impl<'a, S: Serializer> Serializer for Faithful<'a, S> {
    type Ok = Written<S::Ok>;
    type Error = S::Error;
    type SerializeSeq = Faithful<'a, S::SerializeSeq>;
    type SerializeTuple = Faithful<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Faithful<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Faithful<'a, S::SerializeTupleVariant>;
    type SerializeMap = Faithful<'a, S::SerializeMap>;
    type SerializeStruct = Faithful<'a, S::SerializeStruct>;
    type SerializeStructVariant = Faithful<'a, S::SerializeStructVariant>;

    leaves! {
        serialize_bool(bool) serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64) serialize_i128(i128)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_u128(u128)
        serialize_f32(f32) serialize_f64(f64) serialize_unit_struct(&'static str)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    fn serialize_none(self) -> Result<Self::Ok, S::Error> {
        self.inner.serialize_none().map(nil)
    }

    fn serialize_unit(self) -> Result<Self::Ok, S::Error> {
        self.inner.serialize_unit().map(nil)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Self::Ok, S::Error> {
        let refused = self.refused;
        let written = value.serialize(self)?;
        if written.nil {
            *refused.0.borrow_mut() = Some(Vec::new());
            return Err(S::Error::custom("`Some` of nothing"));
        }
        Ok(written)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Self::Ok, S::Error> {
        if name == rmp_serde::MSGPACK_EXT_STRUCT_NAME {
            // `rmp_serde` writes a struct of this name as an extension of MessagePack.
            return self.inner.serialize_newtype_struct(name, value).map(something);
        }
        value.serialize(self)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<Self::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant).map(something)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Self::Ok, S::Error> {
        let refused = self.refused;
        self.inner.serialize_newtype_variant(name, index, variant, &Within { value, refused }).map(something)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Ok(Faithful { inner: self.inner.serialize_seq(length)?, refused: self.refused })
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, S::Error> {
        Ok(Faithful { inner: self.inner.serialize_tuple(length)?, refused: self.refused })
    }

    fn serialize_tuple_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        Ok(Faithful { inner: self.inner.serialize_tuple_struct(name, length)?, refused: self.refused })
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let inner = self.inner.serialize_tuple_variant(name, index, variant, length)?;
        Ok(Faithful { inner, refused: self.refused })
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        Ok(Faithful { inner: self.inner.serialize_map(length)?, refused: self.refused })
    }

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeStruct, S::Error> {
        Ok(Faithful { inner: self.inner.serialize_struct(name, length)?, refused: self.refused })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let inner = self.inner.serialize_struct_variant(name, index, variant, length)?;
        Ok(Faithful { inner, refused: self.refused })
    }
}

/// Implements the traits for lists, tuples and maps: values without names, or with keys that are values themselves.
macro_rules! unnamed {
    ($($kind:ident: $($method:ident),+;)*) => {$(
        impl<S: $kind> $kind for Faithful<'_, S> {
            type Ok = Written<S::Ok>;
            type Error = S::Error;

            $(fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                self.inner.$method(&Within { value, refused: self.refused })
            })+

            fn end(self) -> Result<Self::Ok, S::Error> {
                self.inner.end().map(something)
            }
        }
    )*};
}

unnamed! {
    SerializeSeq: serialize_element;
    SerializeTuple: serialize_element;
    SerializeTupleStruct: serialize_field;
    SerializeTupleVariant: serialize_field;
    SerializeMap: serialize_key, serialize_value;
}

/// Implements the traits for structs: values under the names of fields.
macro_rules! named {
    ($($kind:ident)*) => {$(
        impl<S: $kind> $kind for Faithful<'_, S> {
            type Ok = Written<S::Ok>;
            type Error = S::Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), S::Error> {
                let refused = self.refused;
                self.inner.serialize_field(name, &Within { value, refused }).map_err(refused.leaves(name))
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), S::Error> {
                self.inner.skip_field(name)
            }

            fn end(self) -> Result<Self::Ok, S::Error> {
                self.inner.end().map(something)
            }
        }
    )*};
}

named! { SerializeStruct SerializeStructVariant }
