//! Avro data of our own record types, without a look at the schema.
//!
//! Our schemas use little of Avro: records whose fields stand in the order of the struct, `int`, `long`, `boolean`,
//! `string`, 16-byte `fixed`, arrays, and unions `[null, T]`. So the bytes follow from the Rust type alone, and a field
//! costs a few instructions instead of a look-up by name. They do not go through serde either: its layers between a
//! record and its fields are not inlined, and were most of the time that a record took. What is written with another
//! version of a schema is read by the library, which compares the two. A test holds these bytes against those of two
//! independent encoders (Apache Avro 1.12 specification, "Binary Encoding").

use std::sync::Arc;

use compact_str::CompactString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::{Array, SmallVec};

use super::AvroError;

/// Bytes of the longest 64-bit number.
const NUMBER_LENGTH_MAX: usize = 10;

/// A value whose Avro bytes follow from its type. By serde it is read where another version of the schema wrote it.
pub trait Datum: Serialize + DeserializeOwned {
    /// Appends its bytes.
    fn write(&self, buffer: &mut Vec<u8>);

    /// Reads it back from where the reader stands.
    ///
    /// # Errors
    /// Where the bytes are not such a value.
    fn read(reader: &mut Reader<'_>) -> Result<Self, AvroError>;
}

/// Bytes that are read from their beginning.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

#[cold]
fn malformed(why: &str) -> AvroError {
    AvroError::new(why)
}

impl<'a> Reader<'a> {
    /// Stands at the beginning.
    #[must_use]
    pub fn new(datum: &'a [u8]) -> Self {
        Self(datum)
    }

    /// What was not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Goes past `bytes`, where they come next.
    #[must_use]
    pub fn expect(&mut self, bytes: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(bytes)?;
        Some(())
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], AvroError> {
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
        let first = self.byte()?;
        let value = if first & 0x80 == 0 { u64::from(first) } else { self.long_number(first)? };
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn long_number(&mut self, first: u8) -> Result<u64, AvroError> {
        let mut value = u64::from(first & 0x7f);
        for (index, byte) in self.0.iter().enumerate().take(NUMBER_LENGTH_MAX - 1) {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds the one bit that is left.
            if index == NUMBER_LENGTH_MAX - 2 && *byte > 1 {
                return Err(malformed("a number is longer than 64 bits"));
            }
            value |= bits << (7 * (index + 1));
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Ok(value);
            }
        }
        Err(too_short())
    }

    #[inline]
    pub(crate) fn text(&mut self) -> Result<&'a [u8], AvroError> {
        let length = self.number()?;
        let length = usize::try_from(length).map_err(|_| malformed("a negative length"))?;
        self.take(length)
    }

    /// The items of an array, in blocks that say how many they hold.
    #[inline]
    fn items<T: Datum>(&mut self, mut push: impl FnMut(T)) -> Result<(), AvroError> {
        loop {
            let count = self.number()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.number()?; // the block's length in bytes
            }
            for _ in 0..count.unsigned_abs() {
                push(T::read(self)?);
            }
        }
    }
}

#[cold]
fn too_short() -> AvroError {
    malformed("the record ends too early")
}

#[inline]
fn write_number(value: i64, buffer: &mut Vec<u8>) {
    let bits = ((value << 1) ^ (value >> 63)).cast_unsigned();
    if bits < 0x80 {
        return buffer.push(bits.to_le_bytes()[0]);
    }
    if bits >> 56 != 0 {
        return write_long_number(bits, buffer);
    }
    // Seven bits to a byte without a loop, whose end the processor cannot foresee: two halves of 28 bits, four of 14,
    // eight of 7. Then the bit that says that more bytes come, in all of them but the last.
    let halves = (bits & 0x0fff_ffff) | (bits & 0x00ff_ffff_f000_0000) << 4;
    let quarters = (halves & 0x0000_3fff_0000_3fff) | (halves & 0x0fff_c000_0fff_c000) << 2;
    let eighths = (quarters & 0x007f_007f_007f_007f) | (quarters & 0x3f80_3f80_3f80_3f80) << 1;
    let length = (70 - bits.leading_zeros()) as usize / 7;
    let more = 0x8080_8080_8080_8080 >> (8 * (9 - length));
    // All of them, then back: copying a length that is not known beforehand is a call, which costs more than the number.
    let end = buffer.len() + length;
    buffer.extend_from_slice(&u64::to_le_bytes(eighths | more));
    buffer.truncate(end);
}

/// More than 56 bits.
#[cold]
fn write_long_number(mut bits: u64, buffer: &mut Vec<u8>) {
    while bits >= 0x80 {
        buffer.push(bits.to_le_bytes()[0] | 0x80);
        bits >>= 7;
    }
    buffer.push(bits.to_le_bytes()[0]);
}

#[inline]
fn write_length(length: usize, buffer: &mut Vec<u8>) {
    write_number(i64::try_from(length).expect("nothing in memory is longer than an i64"), buffer);
}

#[inline]
pub(crate) fn write_text(text: &str, buffer: &mut Vec<u8>) {
    write_length(text.len(), buffer);
    buffer.extend_from_slice(text.as_bytes());
}

/// One block, and the empty one that ends an array.
#[inline]
fn write_items<T: Datum>(items: &[T], buffer: &mut Vec<u8>) {
    if !items.is_empty() {
        write_length(items.len(), buffer);
        items.iter().for_each(|item| item.write(buffer));
    }
    buffer.push(0);
}

impl Datum for i64 {
    #[inline]
    fn write(&self, buffer: &mut Vec<u8>) {
        write_number(*self, buffer);
    }

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, AvroError> {
        reader.number()
    }
}

impl Datum for i32 {
    #[inline]
    fn write(&self, buffer: &mut Vec<u8>) {
        write_number(i64::from(*self), buffer);
    }

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, AvroError> {
        Self::try_from(reader.number()?).map_err(|_| malformed("an int is longer than 32 bits"))
    }
}

impl Datum for bool {
    #[inline]
    fn write(&self, buffer: &mut Vec<u8>) {
        buffer.push(u8::from(*self));
    }

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, AvroError> {
        match reader.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(malformed("a boolean is neither 0 nor 1")),
        }
    }
}

/// Avro `fixed`.
impl Datum for [u8; 16] {
    #[inline]
    fn write(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self);
    }

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, AvroError> {
        let (bytes, rest) = reader.0.split_first_chunk().ok_or_else(too_short)?;
        reader.0 = rest;
        Ok(*bytes)
    }
}

macro_rules! texts {
    ($($text:ty),+) => {$(
        impl Datum for $text {
            #[inline]
            fn write(&self, buffer: &mut Vec<u8>) {
                write_text(self, buffer);
            }

            #[inline]
            fn read(reader: &mut Reader<'_>) -> Result<Self, AvroError> {
                std::str::from_utf8(reader.text()?).map(Self::from).map_err(AvroError::new)
            }
        }
    )+};
}

texts!(String, CompactString);

impl<T: Datum> Datum for Option<T> {
    #[inline]
    fn write(&self, buffer: &mut Vec<u8>) {
        match self {
            None => buffer.push(0),
            Some(value) => {
                write_number(1, buffer);
                value.write(buffer);
            }
        }
    }

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, AvroError> {
        match reader.number()? {
            0 => Ok(None),
            1 => T::read(reader).map(Some),
            _ => Err(malformed("a union has two branches, null and a value")),
        }
    }
}

macro_rules! pointers {
    ($($pointer:ident),+) => {$(
        impl<T: Datum> Datum for $pointer<T> {
            #[inline]
            fn write(&self, buffer: &mut Vec<u8>) {
                T::write(self, buffer);
            }

            #[inline]
            fn read(reader: &mut Reader<'_>) -> Result<Self, AvroError> {
                T::read(reader).map(Self::new)
            }
        }
    )+};
}

pointers!(Box, Arc);

impl<T: Datum> Datum for Vec<T> {
    #[inline]
    fn write(&self, buffer: &mut Vec<u8>) {
        write_items(self, buffer);
    }

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, AvroError> {
        let mut items = Self::new();
        // Most arrays have one item: a vector that is pushed to makes room for four.
        reader.items(|item| {
            if items.capacity() == 0 {
                items.reserve_exact(1);
            }
            items.push(item);
        })?;
        Ok(items)
    }
}

impl<A: Array> Datum for SmallVec<A>
where
    A::Item: Datum,
{
    #[inline]
    fn write(&self, buffer: &mut Vec<u8>) {
        write_items(self, buffer);
    }

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, AvroError> {
        let mut items = Self::new();
        reader.items(|item| items.push(item))?;
        Ok(items)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read<T: Datum>(bytes: &[u8]) -> Result<T, AvroError> {
        T::read(&mut Reader::new(bytes))
    }

    #[test]
    fn numbers_of_every_length_come_back() {
        let shifted = (0..63).map(|bits| 1_i64 << bits);
        for number in shifted.flat_map(|n| [n, -n, n - 1]).chain([i64::MIN, i64::MAX]) {
            let mut bytes = Vec::new();
            number.write(&mut bytes);
            let mut one_by_one = Vec::new();
            write_long_number(((number << 1) ^ (number >> 63)).cast_unsigned(), &mut one_by_one);
            assert_eq!(bytes, one_by_one);
            assert_eq!(read::<i64>(&bytes).unwrap(), number);
            assert!(read::<i64>(&bytes[..bytes.len() - 1]).is_err(), "{number} cut off");
        }
    }

    #[test]
    fn arrays_may_come_in_blocks_that_tell_their_bytes() {
        // Two items, then one in a block of one byte; -1 is written 1.
        assert_eq!(read::<Vec<i64>>(&[4, 2, 4, 1, 2, 6, 0]).unwrap(), [1, 2, 3]);
        assert!(read::<Vec<i64>>(&[0]).unwrap().is_empty());
    }

    #[test]
    fn bytes_that_nobody_writes_are_refused() {
        let mut endless = vec![0xff; 9];
        for last in [2, 0x81] {
            endless.push(last);
            assert!(read::<i64>(&endless).is_err(), "more than 64 bits");
            endless.pop();
        }
        assert!(read::<i32>(&[0x80, 0x80, 0x80, 0x80, 0x10]).is_err(), "2^31 is no int");
        assert!(read::<bool>(&[2]).is_err());
        assert!(read::<Option<bool>>(&[4, 1]).is_err(), "a third branch");
        assert!(read::<String>(&[1]).is_err(), "a negative length");
        assert!(read::<String>(&[2, 0xff]).is_err(), "no UTF-8");
        let most = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert!(read::<Vec<i64>>(&most).is_err(), "more items than bytes");
        let least = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert!(read::<Vec<i64>>(&least).is_err(), "i64::MIN items");
    }
}
