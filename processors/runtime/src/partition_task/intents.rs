//! Intents on their way to a decision: taken from the log, and a backlog's read ahead.

use std::collections::VecDeque;

use model::{Intent, Processor, UnreadableIntent};
use schemas::framing;
use schemas::limits::INTENT_BYTES_MAX;

use super::{Batching, PartitionTask, Stop};
use crate::log::{IntentRecord, Log};
use crate::schema_book::{SchemaBook, SchemaProblem};
use crate::store::Store;

/// Of intents that wait: no more are asked for.
const PENDING_BYTES_MAX: usize = 32 * 1_024 * 1_024;

/// An intent that waits for its decision.
pub(super) struct Waiting<C> {
    pub(super) record: IntentRecord,
    /// Read ahead. What could not be is judged when its turn comes: whether to wait for its schema or to refuse it.
    /// Boxed, because it goes through three places until then.
    pub(super) ahead: Option<Box<Intent<C>>>,
}

impl<C> Waiting<C> {
    fn unread(record: IntentRecord) -> Self {
        Self { record, ahead: None }
    }
}

/// Why an intent was not read.
pub(super) enum Unread {
    /// It may be read later.
    Stall(String),
    /// It never will be.
    Poison(UnreadableIntent),
}

impl Unread {
    fn poison(why: String) -> Self {
        Self::Poison(UnreadableIntent { why, intent_id: None })
    }
}

impl<P: Processor, L: Log, S: Store> PartitionTask<P, L, S> {
    /// Takes what was read ahead, and what the log has at hand beside it.
    pub(super) fn take_intents(&mut self) -> Result<(), Stop> {
        if let Some(read) = self.reading.outcome() {
            self.pending.append(&mut read?);
        }
        let room = self.settings.batching.records_max.saturating_sub(self.pending.len());
        if room > 0 && !self.holds_enough() {
            let mut records = VecDeque::new();
            self.is_drained = self.log.poll_intents(&mut records, room)?;
            self.pending.extend(records.into_iter().map(Waiting::unread));
        }
        Ok(())
    }

    /// Starts to read a backlog's next intents.
    pub(super) fn read_ahead(&mut self) -> Result<(), Stop> {
        let Batching { records_max, backlog_min, .. } = self.settings.batching;
        let room = (2 * records_max).saturating_sub(self.pending.len());
        if self.pending.len() < backlog_min || room == 0 || self.holds_enough() {
            return Ok(());
        }
        let mut records = VecDeque::new();
        self.is_drained = self.log.poll_intents(&mut records, room)?;
        if !records.is_empty() {
            let schemas = self.settings.schemas.clone();
            let read = move |record| {
                let ahead = read_known::<P>(&schemas, &record);
                Waiting { record, ahead }
            };
            self.reading.start(move || Ok(records.into_iter().map(read).collect()));
        }
        Ok(())
    }

    /// Of usual intents there is never so much; of the largest, a stalled partition would take gigabytes.
    fn holds_enough(&self) -> bool {
        let bytes: usize = self.pending.iter().map(|waiting| waiting.record.value.len()).sum();
        bytes >= PENDING_BYTES_MAX
    }
}

/// Reads an intent with the schema that it names.
pub(super) fn read_intent<P: Processor>(
    schemas: &SchemaBook,
    record: &IntentRecord,
) -> Result<Box<Intent<P::Command>>, Unread> {
    let (id, datum) =
        framing::split(&record.value).map_err(|error| Unread::poison(error.to_string()))?;
    let codec = schemas.codec(id, P::TOPOLOGY.intents.subject);
    let codec = codec.map_err(|problem| match problem {
        SchemaProblem::Stall(why) => Unread::Stall(why),
        SchemaProblem::Poison(why) => Unread::poison(why),
    })?;
    let read = P::read(&codec, datum).map_err(Unread::Poison)?;
    let length = record.value.len();
    if length > INTENT_BYTES_MAX {
        let why = format!("an intent has at most {INTENT_BYTES_MAX} bytes, this one {length}");
        return Err(Unread::Poison(UnreadableIntent { why, intent_id: Some(read.intent_id) }));
    }
    Ok(Box::new(read))
}

/// Reads an intent that was written with this build's own schema: no other is worth a question to the registry before
/// its turn.
fn read_known<P: Processor>(
    schemas: &SchemaBook,
    record: &IntentRecord,
) -> Option<Box<Intent<P::Command>>> {
    let (id, _) = framing::split(&record.value).ok()?;
    let is_known = id == schemas.write_id(P::TOPOLOGY.intents.subject);
    is_known.then(|| read_intent::<P>(schemas, record).ok()).flatten()
}
