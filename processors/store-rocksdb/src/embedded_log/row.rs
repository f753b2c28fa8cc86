//! Rows of the embedded log: the records of one write that follow one another in a partition lie together, as many as
//! fit. `RocksDB` has much to do for every row, whatever it holds: memory, merging, a step of every read.
//!
//! A row is its kind, the append time, and the records, each after its length; a lone record has none. Several are
//! compressed where that makes them smaller: here, not when files are written, because a row goes through the WAL and
//! memory before.

use lz4::block;
use rocksdb::WriteBatch;
use schemas::units::Millis;

use super::keys::OffsetKeys;

/// What lies at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A record outside any transaction.
    Record = 0,
    /// A record of a transaction.
    Transactional = 1,
    /// The end of a committed transaction.
    Commit = 2,
    /// The end of an aborted transaction.
    Abort = 3,
}

/// No row is larger, unless a single record is: whoever reads one record gets the whole row.
const ROW_BYTES_MAX: usize = 8 * 1_024;
/// Part of the format: no build has written larger rows in fewer bytes. A build that writes them needs another format,
/// because this one would take them for damaged.
const UNCOMPRESSED_BYTES_MAX: usize = 64 * 1_024;
const _: () = assert!(ROW_BYTES_MAX <= UNCOMPRESSED_BYTES_MAX);
/// Set in the kind of a row that holds several records, each after its length.
const SEVERAL: u8 = 4;
/// Set in the kind of a row whose records are compressed.
const COMPRESSED: u8 = 8;
/// Bytes of kind and append time.
const HEADER_LENGTH: usize = 9;
/// Bytes before each of several records.
const SIZE_LENGTH: usize = 4;

/// Records that follow one another in one partition, on their way into rows.
pub(super) struct Run {
    keys: OffsetKeys,
    kind: Kind,
    append_time: Millis,
    /// Of the first record of `row`.
    first: i64,
    /// Offset of the next record.
    end: i64,
    row: Vec<u8>,
    /// Room for `row`, compressed.
    room: Vec<u8>,
}

impl Run {
    /// A run that begins at the offset `first`.
    pub(super) fn new(keys: OffsetKeys, kind: Kind, append_time: Millis, first: i64) -> Self {
        Self { keys, kind, append_time, first, end: first, row: Vec::new(), room: Vec::new() }
    }

    /// Takes the next record and returns its offset; a row that is full goes to `batch`.
    pub(super) fn push(&mut self, batch: &mut WriteBatch, payload: &[u8]) -> i64 {
        if self.row.len() + SIZE_LENGTH + payload.len() > ROW_BYTES_MAX {
            self.put_row(batch);
        }
        if self.row.is_empty() {
            self.row.push(self.kind as u8);
            self.row.extend_from_slice(&self.append_time.0.to_be_bytes());
        }
        let size = u32::try_from(payload.len()).expect("a record is far below four gigabytes");
        self.row.extend_from_slice(&size.to_be_bytes());
        self.row.extend_from_slice(payload);
        self.end += 1;
        self.end - 1
    }

    fn put_row(&mut self, batch: &mut WriteBatch) {
        match self.end - self.first {
            0 => return,
            1 => drop(self.row.drain(HEADER_LENGTH..HEADER_LENGTH + SIZE_LENGTH)),
            _ => self.row[0] |= SEVERAL,
        }
        let row = compressed(&self.row, &mut self.room).unwrap_or(&self.row);
        batch.put(self.keys.key(self.first), row);
        self.row.clear();
        self.first = self.end;
    }

    /// Puts what is left into `batch`; returns the offset after the last record.
    pub(super) fn finish(mut self, batch: &mut WriteBatch) -> i64 {
        self.put_row(batch);
        self.end
    }
}

/// The same row in fewer bytes, if it holds several records and there is a way.
fn compressed<'a>(row: &[u8], room: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let (header, records) = row.split_at(HEADER_LENGTH);
    if header[0] & SEVERAL == 0 {
        return None;
    }
    if room.len() < row.len() {
        room.resize(row.len(), 0);
    }
    let (new_header, fewer) = room[..row.len() - 1].split_at_mut(HEADER_LENGTH);
    let length = block::compress_to_buffer(records, None, false, fewer).ok()?;
    new_header.copy_from_slice(header);
    new_header[0] |= COMPRESSED;
    Some(&room[..HEADER_LENGTH + length])
}

/// What a row holds.
pub(super) struct Row<'a> {
    pub(super) kind: Kind,
    pub(super) append_time: Millis,
    rest: &'a [u8],
    has_several: bool,
}

impl<'a> Row<'a> {
    /// Nothing if it was not written by a [`Run`]. Compressed records are written into `room`.
    pub(super) fn read(row: &'a [u8], room: &'a mut Vec<u8>) -> Option<Self> {
        let (kind, rest) = row.split_first()?;
        let (time, mut rest) = rest.split_first_chunk::<8>()?;
        let append_time = Millis(i64::from_be_bytes(*time));
        let (has_several, is_compressed) = (kind & SEVERAL != 0, kind & COMPRESSED != 0);
        let kind = match kind & !(SEVERAL | COMPRESSED) {
            0 => Kind::Record,
            1 => Kind::Transactional,
            2 => Kind::Commit,
            3 => Kind::Abort,
            _ => return None,
        };
        if is_compressed {
            room.resize(UNCOMPRESSED_BYTES_MAX, 0);
            let size =
                i32::try_from(UNCOMPRESSED_BYTES_MAX).expect("a row is far below two gigabytes");
            let length = block::decompress_to_buffer(rest, Some(size), room).ok()?;
            rest = &room[..length];
        }
        Some(Self { kind, append_time, rest, has_several })
    }

    /// Its records, the first of which lies at the row's offset; nothing in place of one that is damaged.
    pub(super) fn records(self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let mut rest = Some(self.rest);
        std::iter::from_fn(move || {
            let bytes = rest.take()?;
            if !self.has_several {
                return Some(Some(bytes));
            }
            if bytes.is_empty() {
                return None;
            }
            let record = split_record(bytes);
            rest = record.map(|(_, rest)| rest);
            Some(record.map(|(record, _)| record))
        })
    }
}

/// A record after its length, and what follows.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk::<SIZE_LENGTH>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*size)).ok()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use schemas::partition::Partition;
    use schemas::topics::ORDER_INTENTS;

    use super::*;

    /// Keeps what is put, in order.
    #[derive(Default)]
    struct Rows(Vec<(Vec<u8>, Vec<u8>)>);

    impl rocksdb::WriteBatchIterator for Rows {
        fn put(&mut self, key: &[u8], value: &[u8]) {
            self.0.push((key.to_vec(), value.to_vec()));
        }

        fn delete(&mut self, _: &[u8]) {}
    }

    fn keys() -> OffsetKeys {
        OffsetKeys::of_records(ORDER_INTENTS, Partition(3))
    }

    /// Records in which nothing repeats.
    fn noise(count: usize) -> Vec<Vec<u8>> {
        let mut state = 1_u64;
        let byte = std::iter::from_fn(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some(state.to_be_bytes()[0])
        });
        let bytes: Vec<u8> = byte.take(count * 300).collect();
        bytes.chunks(300).map(<[u8]>::to_vec).collect()
    }

    /// Rows of records that begin at offset 7.
    fn rows_of(records: &[Vec<u8>]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut batch = WriteBatch::default();
        let mut run = Run::new(keys(), Kind::Transactional, Millis(5), 7);
        for (offset, record) in (7..).zip(records) {
            assert_eq!(run.push(&mut batch, record), offset);
        }
        assert_eq!(run.finish(&mut batch), 7 + i64::try_from(records.len()).unwrap());
        let mut rows = Rows::default();
        batch.iterate(&mut rows);
        rows.0
    }

    #[test]
    fn records_lie_in_rows_from_which_they_are_read_at_their_offsets() {
        let small = |count: usize| (0..count).map(|i| vec![u8::try_from(i % 251).unwrap(); i % 60]);
        let huge = vec![9; 3 * ROW_BYTES_MAX];
        let none = Vec::new();
        let mixed: Vec<_> =
            small(600).chain([huge.clone(), none.clone()]).chain(small(9)).collect();
        for (records, rows) in [
            (vec![], 0),
            (vec![none.clone()], 1),
            (vec![none.clone(), none], 1),
            (small(100).collect(), 1),
            (noise(20), 1),
            (vec![huge.clone(), huge], 2),
            (mixed, 5),
        ] {
            let written = rows_of(&records);
            assert_eq!(written.len(), rows, "{} records", records.len());
            let mut next = 7;
            let mut read = Vec::new();
            for (key, bytes) in &written {
                assert_eq!(keys().offset_of(key), Some(next));
                let mut room = Vec::new();
                let row = Row::read(bytes, &mut room).unwrap();
                assert_eq!((row.kind, row.append_time), (Kind::Transactional, Millis(5)));
                let inside: Vec<_> = row.records().map(|it| it.unwrap().to_vec()).collect();
                assert!(bytes.len() <= ROW_BYTES_MAX || inside.len() == 1);
                next += i64::try_from(inside.len()).unwrap();
                read.extend(inside);
            }
            assert_eq!(read, records);
        }
    }

    /// A log of format 2 holds rows like those of noise, whatever is in them.
    #[test]
    fn several_records_are_compressed_where_that_makes_them_smaller() {
        let alike = vec![vec![7; 300]; 20];
        for (records, is_smaller) in
            [(alike, true), (noise(20), false), (vec![vec![7; 300]], false)]
        {
            let (_, bytes) = rows_of(&records).remove(0);
            assert_eq!(bytes[0] & COMPRESSED != 0, is_smaller);
            assert_eq!(bytes.len() < records.concat().len(), is_smaller);
        }
    }

    #[test]
    fn compressed_records_of_the_largest_row_are_read_and_damaged_or_larger_ones_are_not() {
        let of = |count| {
            let records = vec![0; UNCOMPRESSED_BYTES_MAX / 2].repeat(count);
            let mut row = vec![SEVERAL | COMPRESSED; HEADER_LENGTH];
            row.extend(block::compress(&records, None, false).unwrap());
            row
        };
        assert!(Row::read(&of(2), &mut Vec::new()).is_some());
        assert!(Row::read(&of(3), &mut Vec::new()).is_none());
        let (_, bytes) = rows_of(&vec![vec![7; 300]; 20]).remove(0);
        let longer = [&bytes[..], &bytes[HEADER_LENGTH..]].concat();
        for damaged in [&bytes[..bytes.len() - 1], &bytes[..HEADER_LENGTH], &longer] {
            assert!(Row::read(damaged, &mut Vec::new()).is_none());
        }
    }

    #[test]
    fn a_row_that_ends_within_a_record_is_damaged_and_ends_there() {
        let (_, bytes) = rows_of(&[b"one".to_vec(), b"two".to_vec()]).remove(0);
        let mut room = Vec::new();
        for cut in [1, 4, 6] {
            let row = Row::read(&bytes[..bytes.len() - cut], &mut room).unwrap();
            assert_eq!(row.records().collect::<Vec<_>>(), [Some(b"one".as_slice()), None]);
        }
        assert!(Row::read(&bytes[..HEADER_LENGTH - 1], &mut room).is_none());
        assert!(Row::read(&[&[16], &bytes[1..]].concat(), &mut room).is_none(), "an unknown kind");
    }
}
