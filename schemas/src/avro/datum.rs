//! Avro data of our own record types, without a look at the schema.
//!
//! Our schemas use little of Avro: records whose fields stand in the order of the struct, `int`, `long`, `boolean`,
//! `string`, 16-byte `fixed`, arrays, and unions `[null, T]`. So the bytes follow from the Rust type alone, and a field
//! costs a few instructions instead of a look-up by name: it was the largest part of a decision. What is written with
//! another version of a schema is read by the library, which compares the two. A test holds these bytes against those
//! of two independent encoders (Apache Avro 1.12 specification, "Binary Encoding").

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use serde::ser::{self, Impossible, Serialize};

use super::AvroError;

/// Bytes of every `fixed`.
const FIXED_LENGTH: usize = 16;
/// Bytes of the longest 64-bit number.
const NUMBER_LENGTH_MAX: usize = 10;

impl ser::Error for AvroError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::new(message)
    }
}

impl de::Error for AvroError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::new(message)
    }
}

/// Appends data to a buffer.
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    #[inline]
    fn number(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        while rest >= 0x80 {
            self.0.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.0.push(rest.to_le_bytes()[0]);
    }

    #[inline]
    fn length(&mut self, length: usize) {
        self.number(i64::try_from(length).expect("nothing in memory is longer than an i64"));
    }
}

fn unused<T>(what: &str) -> Result<T, AvroError> {
    Err(AvroError::new(format!("our schemas have no {what}")))
}

macro_rules! not_in_our_schemas {
    ($($method:ident($($argument:ty),*) -> $result:ty;)+) => {
        $(fn $method(self $(, _: $argument)*) -> Result<$result, AvroError> {
            unused(stringify!($method))
        })+
    };
}

macro_rules! numbers {
    ($($method:ident $number:ty),+) => {
        $(#[inline]
        fn $method(self, value: $number) -> Result<(), AvroError> {
            self.number(i64::from(value));
            Ok(())
        })+
    };
}

impl ser::Serializer for &mut Writer<'_> {
    type Ok = ();
    type Error = AvroError;
    type SerializeSeq = Self;
    type SerializeStruct = Self;
    type SerializeTuple = Impossible<(), AvroError>;
    type SerializeTupleStruct = Impossible<(), AvroError>;
    type SerializeTupleVariant = Impossible<(), AvroError>;
    type SerializeMap = Impossible<(), AvroError>;
    type SerializeStructVariant = Impossible<(), AvroError>;

    numbers!(serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_u8 u8,
        serialize_u16 u16, serialize_u32 u32);

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), AvroError> {
        self.0.push(u8::from(value));
        Ok(())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), AvroError> {
        self.length(value.len());
        self.0.extend_from_slice(value.as_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), AvroError> {
        if value.len() != FIXED_LENGTH {
            return unused("bytes of another length than 16");
        }
        self.0.extend_from_slice(value);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), AvroError> {
        self.number(0);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), AvroError> {
        self.number(1);
        value.serialize(self)
    }

    /// Enumerations are strings in our schemas: adding a symbol to an Avro `enum` would break old readers.
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        word: &'static str,
    ) -> Result<(), AvroError> {
        self.serialize_str(word)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), AvroError> {
        value.serialize(self)
    }

    /// One block, and the empty one that ends an array.
    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Self, AvroError> {
        match length {
            Some(0) => Ok(self),
            Some(length) => {
                self.length(length);
                Ok(self)
            }
            None => unused("sequence of unknown length"),
        }
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, AvroError> {
        Ok(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), AvroError> {
        unused("variant with a value")
    }

    not_in_our_schemas! {
        serialize_u64(u64) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

impl ser::SerializeSeq for &mut Writer<'_> {
    type Ok = ();
    type Error = AvroError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), AvroError> {
        value.serialize(&mut **self)
    }

    #[inline]
    fn end(self) -> Result<(), AvroError> {
        self.number(0);
        Ok(())
    }
}

impl ser::SerializeStruct for &mut Writer<'_> {
    type Ok = ();
    type Error = AvroError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        _: &'static str,
        value: &T,
    ) -> Result<(), AvroError> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), AvroError> {
        Ok(())
    }
}

/// Reads data from its beginning.
pub(super) struct Reader<'de>(pub(super) &'de [u8]);

impl<'de> Reader<'de> {
    #[inline]
    fn take(&mut self, length: usize) -> Result<&'de [u8], AvroError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(too_short)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, AvroError> {
        let (first, rest) = self.0.split_first().ok_or_else(too_short)?;
        self.0 = rest;
        Ok(*first)
    }

    #[inline]
    fn number(&mut self) -> Result<i64, AvroError> {
        let mut value = 0_u64;
        for index in 0..NUMBER_LENGTH_MAX {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds the one bit that is left.
            if index == NUMBER_LENGTH_MAX - 1 && bits > 1 {
                break;
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(AvroError::new("a number is longer than 64 bits"))
    }

    #[inline]
    fn text(&mut self) -> Result<&'de str, AvroError> {
        let length = self.number()?;
        let length = usize::try_from(length).map_err(|_| AvroError::new("a negative length"))?;
        std::str::from_utf8(self.take(length)?).map_err(AvroError::new)
    }
}

fn too_short() -> AvroError {
    AvroError::new("the record ends too early")
}

macro_rules! read_numbers {
    ($($method:ident),+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, AvroError> {
            visitor.visit_i64(self.number()?)
        })+
    };
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = AvroError;

    read_numbers!(
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_u8,
        deserialize_u16,
        deserialize_u32
    );

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, AvroError> {
        match self.byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            other => Err(AvroError::new(format!("{other} is no boolean"))),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, AvroError> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, AvroError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, AvroError> {
        visitor.visit_borrowed_bytes(self.take(FIXED_LENGTH)?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, AvroError> {
        match self.number()? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self),
            other => Err(AvroError::new(format!("a union has no branch {other}"))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, AvroError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, AvroError> {
        let word: StrDeserializer<'_, AvroError> = self.text()?.into_deserializer();
        visitor.visit_enum(word)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, AvroError> {
        visitor.visit_seq(Fields { reader: self, left: fields.len() })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, AvroError> {
        visitor.visit_seq(Blocks { reader: self, left: 0 })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, AvroError> {
        unused("type that is known only from the data")
    }

    serde::forward_to_deserialize_any! {
        u64 i128 u128 f32 f64 char byte_buf unit unit_struct tuple tuple_struct map identifier ignored_any
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The fields of a record.
struct Fields<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Fields<'_, 'de> {
    type Error = AvroError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, AvroError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

/// The items of an array, in blocks that say how many they hold.
struct Blocks<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: u64,
}

impl<'de> de::SeqAccess<'de> for Blocks<'_, 'de> {
    type Error = AvroError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, AvroError> {
        if self.left == 0 {
            let count = self.reader.number()?;
            if count == 0 {
                return Ok(None);
            }
            if count < 0 {
                self.reader.number()?; // the block's length in bytes
            }
            self.left = count.unsigned_abs();
        }
        self.left -= 1;
        seed.deserialize(&mut *self.reader).map(Some)
    }
}
