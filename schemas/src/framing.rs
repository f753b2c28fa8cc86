//! Confluent wire format: a zero byte, the schema id as big-endian u32, the Avro datum.

/// Bytes before the datum.
pub const HEADER_LENGTH: usize = 5;

/// Why a record value is not framed Avro.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FramingError {
    /// Fewer than five bytes.
    #[error("record of {0} bytes is shorter than the 5-byte schema header")]
    TooShort(usize),
    /// Another format, or plain text sent by hand.
    #[error("first byte is 0x{0:02x}, not the magic byte 0x00")]
    WrongMagicByte(u8),
}

/// Schema id and datum of a record value.
///
/// # Errors
/// [`FramingError`] where the value cannot be framed Avro; the record is poison, a retry reads the same.
pub fn split(value: &[u8]) -> Result<(u32, &[u8]), FramingError> {
    match value {
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [0, ..] | [] => Err(FramingError::TooShort(value.len())),
        [other, ..] => Err(FramingError::WrongMagicByte(*other)),
    }
}

/// Starts a record value in `buffer`, which is cleared first.
pub fn start(buffer: &mut Vec<u8>, schema_id: u32) {
    buffer.clear();
    buffer.push(0);
    buffer.extend_from_slice(&schema_id.to_be_bytes());
}
